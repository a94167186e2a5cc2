"""What fault tests are made of: a scripted backend, clients that remember, a daemon to kill, a bad disk, a judge."""
