"""Interactive Brokers through a Client Portal gateway: pure books and wires, then the links."""
