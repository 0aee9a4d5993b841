"""The backend everybody shares: nginx answering fixed bodies, since it is the cheapest server at hand."""

from __future__ import annotations

from pathlib import Path

from loadtest.launch import LOAD_CPU, Running, find

CONFIG = """\
daemon off; master_process off; worker_processes 1; worker_rlimit_nofile 20000;
pid {folder}/nginx.pid; error_log {folder}/error.log crit;
events {{ worker_connections 10000; multi_accept on; }}
http {{
  access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; default_type text/plain; etag off;
  open_file_cache max=100; open_file_cache_valid 1h;
  keepalive_timeout 1h; keepalive_requests 1000000000;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port} backlog=4096; root {folder}/bodies; }}
}}
"""


def start_backend(folder: Path, port: int, *, sizes: tuple[int, ...]) -> Running:
    """Serve `/SIZE` for every size, from CPU 1. Missing when nginx is."""
    nginx = find("nginx")
    (folder / "bodies").mkdir(parents=True)
    folder.chmod(0o755)
    for size in sizes:
        (folder / "bodies" / str(size)).write_bytes((b"0123456789abcdef" * (size // 16 + 1))[:size])
    config = folder / "nginx.conf"
    config.write_text(CONFIG.format(folder=folder, port=port))
    running = Running("backend", [nginx, "-c", str(config), "-p", str(folder)], folder=folder, cpu=LOAD_CPU)
    running.wait_ready(port)
    return running
