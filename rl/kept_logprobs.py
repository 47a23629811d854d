"""Log-probs of a model that never changes, computed once: a later pass over the data or a resumed run reads them.

    RUN/kept/ROLE-FINGERPRINT.sqlite     one row for each sequence; rank 0 writes, all ranks read at the start

The fingerprint is of the model's files and of the arithmetic, so no number is ever taken for that of another model.
What the ranks compute in an update they exchange at its end: it does not matter which of them a sequence comes to.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from rl.models import Outputs
from rl.sample import Batch, empty_batch
from rl.train_engine import gather_over_ranks, max_over_ranks, own_rank

_TABLE = "CREATE TABLE IF NOT EXISTS logprobs (sequence BLOB PRIMARY KEY, logprobs BLOB NOT NULL) WITHOUT ROWID"
_CHUNK = 2**24


class KeptModel:
    """Gives the log-probs of a frozen model, from what is kept where it can."""

    def __init__(self, load: Callable[[], Callable[[Batch], Outputs]], path: Path | None) -> None:
        """Read what is kept; the model is loaded when a sequence is missing.

        Args:
            load: gives the model.
            path: the file; None keeps log-probs in memory only. Its folder must exist.
        """
        self._load = load
        self._path = path
        self._model: Callable[[Batch], Outputs] | None = None
        self._known: dict[bytes, np.ndarray] = _read(path) if path is not None else {}
        self._new: dict[bytes, np.ndarray] = {}

    @property
    def is_loaded(self) -> bool:
        """Whether the model takes memory now."""
        return self._model is not None

    def __call__(self, batch: Batch) -> Outputs:
        """Log-probs [B, T] of the tokens in the loss mask, 0 elsewhere; nothing else. Every rank must call it."""
        masks = batch.loss_mask.cpu().numpy()
        rows = [row for row in range(len(masks)) if masks[row].any()]
        token_ids = batch.token_ids.cpu().numpy()
        keys = {row: _key(token_ids[row], masks[row]) for row in rows}
        missing = [row for row in rows if keys[row] not in self._known]
        # A sharded model moves in step: where one rank needs it, all of them call it.
        if _on_any_rank(bool(missing), batch.token_ids.device):
            found = self._computed(batch, missing)
            self._new |= {keys[row]: found[place][masks[row]] for place, row in enumerate(missing)}
            self._known |= self._new
        logprobs = np.zeros(masks.shape, dtype=np.float32)
        for row in rows:
            logprobs[row, masks[row]] = self._known[keys[row]]
        return {"logprobs": torch.from_numpy(logprobs).to(batch.token_ids.device)}

    def _computed(self, batch: Batch, rows: list[int]) -> np.ndarray:
        if self._model is None:
            self._model = self._load()
        if not rows:
            self._model(empty_batch(()).to(batch.token_ids.device))
            return np.zeros((0, 0), dtype=np.float32)
        part = replace(
            batch,
            token_ids=batch.token_ids[rows],
            attention_mask=batch.attention_mask[rows],
            loss_mask=batch.loss_mask[rows],
            streams={},
            units=batch.units[rows],
        )
        return self._model(part)["logprobs"].float().cpu().numpy()

    def settle(self) -> None:
        """End an update: share and write what is new, or unload the model if nothing was. Every rank must call it."""
        new: dict[bytes, np.ndarray] = {}
        for part in gather_over_ranks(self._new):
            new |= part
        self._known |= new
        self._new = {}
        if not new:
            self._model = None
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        elif self._path is not None and own_rank() == 0:
            _write(self._path, new)


def fingerprint(model_path: Path, arithmetic: str) -> str:
    """A name for the numbers that a model folder gives: of the content of its configuration and its weights."""
    digest = hashlib.blake2b(arithmetic.encode(), digest_size=12)
    for path in [model_path / "config.json", *sorted(model_path.glob("*.safetensors"))]:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def _on_any_rank(value: bool, device: torch.device) -> bool:
    return bool(max_over_ranks(torch.tensor(float(value), device=device)).item())


def _key(token_ids: np.ndarray, mask: np.ndarray) -> bytes:
    """Of one row: what stands after the last trained token changes nothing."""
    end = int(np.flatnonzero(mask)[-1]) + 1
    digest = hashlib.blake2b(token_ids[:end].astype("<i8").tobytes(), digest_size=16)
    digest.update(mask[:end].tobytes())
    return digest.digest()


@contextmanager
def _database(path: Path) -> Iterator[sqlite3.Connection]:
    """A transaction on the file: all of it or nothing is written."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(_TABLE)
        yield database


def _read(path: Path) -> dict[bytes, np.ndarray]:
    if not path.is_file():
        return {}
    with _database(path) as database:
        rows = database.execute("SELECT sequence, logprobs FROM logprobs").fetchall()
    return {sequence: np.frombuffer(logprobs, dtype="<f4") for sequence, logprobs in rows}


def _write(path: Path, logprobs: Mapping[bytes, np.ndarray]) -> None:
    rows = [(sequence, values.astype("<f4").tobytes()) for sequence, values in logprobs.items()]
    with _database(path) as database:
        database.executemany("INSERT OR REPLACE INTO logprobs VALUES (?, ?)", rows)
