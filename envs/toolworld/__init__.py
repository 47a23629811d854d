"""The procedural tool world: catalogues, tasks, simulated results and demonstrations."""

from envs.toolworld.demonstrator import Demonstrator
from envs.toolworld.simulator import ToolWorldEnv
from envs.toolworld.tasks import ToolWorldTasks

__all__ = ["Demonstrator", "ToolWorldEnv", "ToolWorldTasks"]
