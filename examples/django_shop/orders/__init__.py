"""The application: orders, their webhooks, and what is done with them."""
