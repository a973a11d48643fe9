"""What the methods of a manager do (`operations`), and their awaitable forms (`awaitable`)."""
