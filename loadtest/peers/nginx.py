"""nginx, configured as ingress-nginx 1.15 would (without its Lua, which only costs more)."""

from __future__ import annotations

from loadtest.launch import Place, find

# ingress-nginx's defaults: response buffering off with one 4 KiB buffer, an unbuffered access log, 4 KiB TLS records.
INGRESS_BUFFERS = "proxy_buffering off; proxy_buffer_size 4k; proxy_buffers 4 4k;"
INGRESS_LOG = ""
INGRESS_TLS_RECORD = "4k"

# What somebody who tunes nginx for throughput would write instead.
TUNED_BUFFERS = "proxy_buffering on; proxy_buffer_size 16k; proxy_buffers 16 16k;"
TUNED_LOG = " buffer=64k flush=1s"
TUNED_TLS_RECORD = "16k"

CONFIG = """\
daemon off; worker_processes 1; worker_rlimit_nofile 20000; user root;
pid {folder}/nginx.pid; error_log {folder}/error.log crit;
events {{ worker_connections 16384; multi_accept on; use epoll; }}
http {{
  log_format json escape=json '{{"time":"$time_iso8601","request_id":"$req_id","remote_addr":"$remote_addr",'
    '"host":"$host","method":"$request_method","path":"$request_uri","protocol":"$server_protocol","status":$status,'
    '"bytes_sent":$bytes_sent,"bytes_received":$request_length,"duration_s":$request_time,"upstream":"bench","upstream_addr":"$upstream_addr",'
    '"upstream_status":"$upstream_status","upstream_duration_s":"$upstream_response_time","route":"bench",'
    '"user_agent":"$http_user_agent","referer":"$http_referer","tls":"$ssl_protocol"}}';
  access_log {folder}/access.log json{log};
  aio threads; tcp_nopush on; tcp_nodelay on; reset_timedout_connection on; server_tokens off;
  keepalive_timeout 75s; keepalive_requests 1000;
  client_header_buffer_size 1k; client_header_timeout 60s; large_client_header_buffers 4 8k;
  client_body_buffer_size 8k; client_body_timeout 60s; client_max_body_size 1m;
  ssl_protocols TLSv1.2 TLSv1.3; ssl_prefer_server_ciphers on; ssl_session_cache shared:SSL:10m;
  ssl_session_timeout 10m; ssl_session_tickets off; ssl_buffer_size {tls_record}; ssl_certificate {cert};
  ssl_certificate_key {key};
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  map $http_x_request_id $req_id {{ default $http_x_request_id; "" $request_id; }}
  map $http_upgrade $connection_upgrade {{ default upgrade; "" ""; }}
  upstream bench {{
    server 127.0.0.1:{backend};
    keepalive 320; keepalive_time 1h; keepalive_timeout 60s; keepalive_requests 10000;
  }}
  server {{
    listen 127.0.0.1:{http} backlog=4096; server_name localhost;
    {location}
  }}
  server {{
    listen 127.0.0.1:{https} ssl backlog=4096; server_name localhost;
    add_header Strict-Transport-Security "max-age=31536000; includeSubDomains" always;
    {location}
  }}
  server {{ listen 127.0.0.1:{admin}; access_log off; location /nginx_status {{ stub_status; }} }}
}}
"""

LOCATION = """\
location / {{
      proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;
      proxy_set_header X-Request-ID $req_id; proxy_set_header X-Real-IP $remote_addr;
      proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Forwarded-Port $server_port; proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Scheme $scheme; proxy_set_header X-Scheme $scheme;
      proxy_set_header X-Original-Forwarded-For $http_x_forwarded_for; proxy_set_header Proxy "";
      proxy_connect_timeout 5s; proxy_send_timeout 60s; proxy_read_timeout 60s;
      {buffers} proxy_max_temp_file_size 1024m; proxy_request_buffering on;
      proxy_http_version 1.1; proxy_cookie_domain off; proxy_cookie_path off;
      proxy_next_upstream error timeout; proxy_next_upstream_timeout 0; proxy_next_upstream_tries 3;
      proxy_redirect off; proxy_pass http://bench;
    }}"""


def command(place: Place, *, tuned: bool = False) -> list[str]:
    """The command to start. Missing when nginx is not installed."""
    nginx = find("nginx")
    place.folder.chmod(0o755)
    config = place.write(
        "nginx.conf",
        CONFIG.format(
            folder=place.folder,
            http=place.http_port,
            https=place.https_port,
            admin=place.admin_port,
            backend=place.backend_port,
            cert=place.cert_file,
            key=place.key_file,
            log=TUNED_LOG if tuned else INGRESS_LOG,
            tls_record=TUNED_TLS_RECORD if tuned else INGRESS_TLS_RECORD,
            location=LOCATION.format(buffers=TUNED_BUFFERS if tuned else INGRESS_BUFFERS),
        ),
    )
    return [nginx, "-c", str(config), "-p", str(place.folder)]


def tuned_command(place: Place) -> list[str]:
    """nginx with response buffering, larger TLS records and a buffered access log."""
    return command(place, tuned=True)
