"""The gateway: the one process with broker and feed connections, the order path and the desk's timeline."""
