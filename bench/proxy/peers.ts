import { createHmac } from "node:crypto";

/** How many instances the peers and our proxy have on this host. */
export const INSTANCES = 500;

/** Where everything listens, inside the bench's own network namespace. */
export const TCP_PORTS = { nova: 8775, plain: 8081, neutron: 8082, ours: 8083 } as const;

/** The constant upstream: 1 KiB for any path, 64 KiB for user_data. */
export function nginxConf(folder: string): string {
  const temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    .map((kind) => `${kind}_temp_path ${folder}/${kind};`)
    .join(" ");
  return `user root; worker_processes 1; daemon off; pid ${folder}/nginx.pid; error_log ${folder}/error.log warn;
events { worker_connections 8192; }
http { access_log off; default_type text/plain; sendfile on; tcp_nopush on; tcp_nodelay on;
  open_file_cache max=16 inactive=1h; open_file_cache_valid 1h; keepalive_requests 100000000; ${temp}
  server { listen 127.0.0.1:${TCP_PORTS.nova} backlog=4096; root ${folder};
    location / { try_files /1k =404; } location ~ user_data$ { try_files /64k =404; } } }
`;
}

/** A haproxy that only forwards. */
export function plainConf(): string {
  return `global
    maxconn 4096
defaults
    mode http
    retries 3
    timeout http-request 30s
    timeout connect 30s
    timeout client 32s
    timeout server 32s
    timeout http-keep-alive 30s
listen listener
    bind 127.0.0.1:${TCP_PORTS.plain}
    server metadata 127.0.0.1:${TCP_PORTS.nova}
`;
}

/** One haproxy for the host: for each instance a source ACL, a rule, and a backend that sets what nova wants. */
export function neutronConf(): string {
  const instances = Array.from({ length: INSTANCES }, (_, i) => ({
    id: `bbbbbbbb-0000-4000-8000-${String(i).padStart(12, "0")}`,
    address: i === INSTANCES / 2 ? "127.0.0.1" : `10.77.${i >> 8}.${i & 255}`,
  }));
  const acls = instances.map(({ id, address }) => `    acl instance_${id} src ${address}`);
  const rules = instances.map(({ id }) => `    use_backend backend_${id} if instance_${id}`);
  const backends = instances.map(({ id }) => {
    const signature = createHmac("sha256", "bench-secret").update(id).digest("hex");
    return `backend backend_${id}
    mode http
    balance roundrobin
    retries 3
    option redispatch
    timeout http-request 30s
    timeout connect 30s
    timeout server 30s
    http-request set-header X-Instance-ID ${id}
    http-request set-header X-Tenant-ID cccccccc000040008000000000000001
    http-request set-header X-Instance-ID-Signature ${signature}
    server metasrv 127.0.0.1:${TCP_PORTS.nova}`;
  });
  return `global
    log /dev/log local0 debug
    maxconn 1024
frontend public
    bind 127.0.0.1:${TCP_PORTS.neutron}
    mode http
    log global
    option httplog
    option dontlognull
    maxconn 1024
    timeout http-request 30s
    timeout client 32s
    timeout http-keep-alive 30s
${acls.join("\n")}
${rules.join("\n")}
${backends.join("\n")}
`;
}

/** Makes wrk end with one line that a program reads. */
export const REPORT_LUA = `done = function(summary, latency)
  local e = summary.errors
  io.write(string.format('REPORT {"requests":%d,"us":%d,"p50":%d,"p99":%d,"failed":%d}\\n', summary.requests,
    summary.duration, latency:percentile(50), latency:percentile(99), e.connect + e.read + e.write + e.status + e.timeout))
end`;

/** Makes wrk ask for another URL each time. */
export const DISTINCT_LUA = `local n = 0
request = function()
  n = n + 1
  return wrk.format(nil, wrk.path .. "?" .. n)
end`;
