"""Who calls, and may he: a certificate-bound access token and an account certificate."""
