"""Where it runs: the cluster files, shipped as package data. `README.md` says which one when."""
