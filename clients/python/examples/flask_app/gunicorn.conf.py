"""How gunicorn runs the notes: processes that are forked from one that has loaded the application."""

wsgi_app = "app:create_app()"
workers = 2
threads = 4
preload_app = True
# Longer than `service.DEADLINE`, with room for the rest of a request.
timeout = 15
# Newer versions would open a socket in the home directory by which others can manage them, from a thread of the process that forks.
control_socket_disable = True
