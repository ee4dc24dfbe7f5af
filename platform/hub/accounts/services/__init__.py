"""What changes users, workspaces, tokens and webhooks, one module per noun; and the audit log."""
