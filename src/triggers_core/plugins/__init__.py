"""The plugins of an application: the list, what each implements, and how the core calls them."""
