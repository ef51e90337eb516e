import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer, type ServerOptions as TlsOptions } from "node:https";
import type { AddressInfo, Socket } from "node:net";

/** An instance that the stand-in nova knows. */
export interface NovaInstance {
  readonly instanceId: string;
  readonly projectId: string;
  readonly hostname: string;
  readonly localIpv4: string;
  readonly userData?: Buffer;
}

/** What it received, after its own check of the signature. */
export interface NovaRequest {
  readonly method: string;
  readonly path: string;
  /** Name, value, name, value. */
  readonly rawHeaders: readonly string[];
  readonly headers: IncomingMessage["headers"];
  readonly body: Buffer;
  readonly remotePort: number | undefined;
  readonly status: number;
}

/** What goes wrong with one answer. `truncate` sends half of it; `by` says how the connection then ends. */
export type NovaFault =
  | {
      readonly kind: "status";
      readonly status: number;
      readonly headers?: readonly string[];
      readonly body?: Buffer;
    }
  | { readonly kind: "reset" }
  | { readonly kind: "empty" }
  | { readonly kind: "hang" }
  | { readonly kind: "slow"; readonly ms: number }
  | { readonly kind: "truncate"; readonly by: "fin" | "rst" }
  | { readonly kind: "garbage"; readonly bytes: string };

export interface NovaOptions {
  readonly secret: string;
  readonly instances: readonly NovaInstance[];
  /** `length`: Content-Length and keep-alive, as eventlet; `fin`: no length, the end is a FIN, as Debian's uwsgi. */
  readonly framing?: "length" | "fin";
  /** A unix socket's path instead of a free TCP port of 127.0.0.1. */
  readonly socketPath?: string;
  readonly host?: string;
  readonly tcpPort?: number;
  readonly tls?: TlsOptions;
  /** Goes before every path. */
  readonly basePath?: string;
}

/**
 * A nova-api-metadata for tests and the demo: a real HTTP server that checks signatures in nova's order and
 * with nova's answers, serves each instance its own documents and nobody else's, and breaks when told to.
 */
export class StandInNova {
  readonly requests: NovaRequest[] = [];
  /** Asked for each request after the health check's; undefined is no fault. */
  fault: (method: string, path: string, count: number) => NovaFault | undefined = () => undefined;
  connections = 0;
  /** Requests for `/`, which need no identity. */
  healthChecks = 0;
  /** While true, health checks fail as well. */
  isUnwell = false;
  secret: string;
  readonly passwords = new Map<string, string>();
  readonly #instances: Map<string, NovaInstance>;
  readonly #options: NovaOptions;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor(options: NovaOptions) {
    this.#options = options;
    this.secret = options.secret;
    this.#instances = new Map(options.instances.map((instance) => [instance.instanceId, instance]));
    const listener = (req: IncomingMessage, res: ServerResponse): void => void this.#serve(req, res);
    this.#server =
      options.tls === undefined ? createServer(listener) : createTlsServer(options.tls, listener);
    this.#server.keepAliveTimeout = 60_000;
    this.#server.on("connection", (socket: Socket) => {
      this.connections++;
      this.#sockets.add(socket);
      socket.on("error", () => socket.destroy());
      socket.on("close", () => this.#sockets.delete(socket));
    });
  }

  static async start(options: NovaOptions): Promise<StandInNova> {
    const nova = new StandInNova(options);
    await nova.listen(options.tcpPort ?? 0);
    return nova;
  }

  async listen(tcpPort: number): Promise<void> {
    const { socketPath, host = "127.0.0.1" } = this.#options;
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      const where = socketPath === undefined ? { host, port: tcpPort } : { path: socketPath };
      this.#server.listen({ ...where, backlog: 4096 }, resolve);
    });
  }

  get tcpPort(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get url(): string {
    const { socketPath, tls, host = "127.0.0.1", basePath = "" } = this.#options;
    if (socketPath !== undefined) return `unix:${socketPath}`;
    return `${tls === undefined ? "http" : "https"}://${host}:${this.tcpPort}${basePath}`;
  }

  add(instance: NovaInstance): void {
    this.#instances.set(instance.instanceId, instance);
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  async #serve(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of req) chunks.push(chunk as Buffer);
    const path = this.#withoutBase(req.url ?? "");
    const isHealthCheck = path === "/" && req.headers["x-instance-id"] === undefined;
    if (isHealthCheck) this.healthChecks++;
    const reply = this.#reply(req, path, Buffer.concat(chunks));
    const fault = this.#faultFor(req, path, isHealthCheck);
    if (!isHealthCheck)
      this.#record(req, Buffer.concat(chunks), fault?.kind === "status" ? fault.status : reply.status);
    await this.#send(req, res, reply, fault);
  }

  #withoutBase(url: string): string {
    const { basePath = "" } = this.#options;
    return url.startsWith(basePath) ? url.slice(basePath.length) : `outside the base path: ${url}`;
  }

  #faultFor(req: IncomingMessage, path: string, isHealthCheck: boolean): NovaFault | undefined {
    if (isHealthCheck) return this.isUnwell ? { kind: "status", status: 503 } : undefined;
    const count = this.requests.filter((request) => request.path === req.url).length + 1;
    return this.fault(req.method ?? "", path, count);
  }

  #record(req: IncomingMessage, body: Buffer, status: number): void {
    const { method = "", url = "", rawHeaders, headers } = req;
    this.requests.push({
      method,
      path: url,
      rawHeaders,
      headers,
      body,
      remotePort: req.socket.remotePort,
      status,
    });
  }

  #reply(req: IncomingMessage, path: string, body: Buffer): Reply {
    if (path === "/") return text(200, "1.0\n2009-04-04\nlatest");
    const [instanceId, signature, projectId] = [
      "X-Instance-ID",
      "X-Instance-ID-Signature",
      "X-Tenant-ID",
    ].map((name) => req.headers[name.toLowerCase()] as string | undefined);
    // The order of the checks is nova's.
    if (instanceId === undefined) return text(400, "X-Instance-ID header is missing from request.");
    if (signature === undefined) return text(400, "X-Instance-ID-Signature header is missing from request.");
    if (projectId === undefined) return text(400, "X-Tenant-ID header is missing from request.");
    if (!this.#isSigned(instanceId, signature)) return text(403, "Invalid proxy request signature.");
    const instance = this.#instances.get(instanceId);
    if (instance === undefined || instance.projectId !== projectId) return NOT_FOUND;
    return this.#document(instance, req.method ?? "", path.replace(/\?.*$/, ""), body);
  }

  #isSigned(instanceId: string, signature: string): boolean {
    const expected = Buffer.from(createHmac("sha256", this.secret).update(instanceId).digest("hex"));
    const given = Buffer.from(signature);
    return given.length === expected.length && timingSafeEqual(given, expected);
  }

  #document(instance: NovaInstance, method: string, path: string, body: Buffer): Reply {
    const [, root, version, ...rest] = path.split("/").map((part) => part.replaceAll("%2f", "/"));
    const leaf = rest.join("/");
    if (root === "openstack") {
      if (version === undefined || version === "") return text(200, "2018-08-27\nlatest");
      if (leaf === "password") return this.#password(instance, method, body);
      return openstackDocument(instance, leaf);
    }
    if (version === "user-data") return instance.userData ? octets(instance.userData) : NOT_FOUND;
    return version === "meta-data" ? ec2Document(instance, leaf) : NOT_FOUND;
  }

  #password({ instanceId }: NovaInstance, method: string, body: Buffer): Reply {
    if (method === "GET") return text(200, this.passwords.get(instanceId) ?? "");
    if (method !== "POST") return text(400, "GET and POST only are supported.");
    if (body.length > 1020) return text(400, "Request is too large.");
    if (this.passwords.has(instanceId)) return text(409, "There was a conflict.");
    this.passwords.set(instanceId, body.toString());
    return text(200, "");
  }

  async #send(
    req: IncomingMessage,
    res: ServerResponse,
    reply: Reply,
    fault: NovaFault | undefined,
  ): Promise<void> {
    const { socket } = req;
    switch (fault?.kind) {
      case "reset":
        socket.resetAndDestroy();
        return;
      case "empty":
        socket.end();
        return;
      case "hang":
        return;
      case "garbage":
        socket.end(fault.bytes, "latin1");
        return;
      case "slow":
        await new Promise((resolve) => setTimeout(resolve, fault.ms));
        break;
      case "truncate":
        this.#truncate(socket, reply, fault.by);
        return;
      case "status":
        this.#whole(req, res, {
          status: fault.status,
          headers: fault.headers ?? ["Content-Type", "text/plain"],
          body: fault.body ?? Buffer.from(`${fault.status}`),
        });
        return;
    }
    this.#whole(req, res, reply);
  }

  #whole(req: IncomingMessage, res: ServerResponse, { status, headers, body }: Reply): void {
    const sent = req.method === "HEAD" || status === 204 || status === 304 ? Buffer.alloc(0) : body;
    if (this.#options.framing === "fin") {
      const head = [`HTTP/1.1 ${status} ${reasonOf(status)}`, ...pairs(headers), "", ""].join("\r\n");
      req.socket.end(Buffer.concat([Buffer.from(head, "latin1"), sent]));
      return;
    }
    res.sendDate = false;
    const length = status === 204 || status === 304 ? [] : ["Content-Length", String(body.length)];
    res.writeHead(status, reasonOf(status), [...headers, ...length]);
    res.end(sent);
  }

  #truncate(socket: Socket, { status, headers, body }: Reply, by: "fin" | "rst"): void {
    const length = `Content-Length: ${body.length}`;
    const head = [`HTTP/1.1 ${status} ${reasonOf(status)}`, ...pairs(headers), length, "", ""].join("\r\n");
    const half = body.subarray(0, Math.floor(body.length / 2));
    socket.write(Buffer.concat([Buffer.from(head, "latin1"), half]), () => {
      if (by === "fin") socket.end();
      else socket.resetAndDestroy();
    });
  }
}

interface Reply {
  readonly status: number;
  readonly headers: readonly string[];
  readonly body: Buffer;
}

function text(status: number, body: string): Reply {
  return { status, headers: ["Content-Type", "text/plain; charset=UTF-8"], body: Buffer.from(body) };
}

function json(value: object): Reply {
  return {
    status: 200,
    headers: ["Content-Type", "application/json"],
    body: Buffer.from(JSON.stringify(value)),
  };
}

function octets(body: Buffer): Reply {
  return { status: 200, headers: ["Content-Type", "text/plain; charset=UTF-8"], body };
}

const NOT_FOUND: Reply = text(404, "The resource could not be found.");

function openstackDocument(instance: NovaInstance, leaf: string): Reply {
  switch (leaf) {
    case "":
      return text(
        200,
        "meta_data.json\nuser_data\npassword\nvendor_data.json\nnetwork_data.json\nvendor_data2.json",
      );
    case "meta_data.json":
      return json({
        uuid: instance.instanceId,
        project_id: instance.projectId,
        hostname: instance.hostname,
        name: instance.hostname,
        random_seed: randomBytes(512).toString("base64"),
      });
    case "user_data":
      return instance.userData ? octets(instance.userData) : NOT_FOUND;
    case "network_data.json":
      return json({ links: [], networks: [{ type: "ipv4", ip_address: instance.localIpv4 }], services: [] });
    case "vendor_data.json":
      return json({});
    case "vendor_data2.json":
      return json({ static: {} });
    default:
      return NOT_FOUND;
  }
}

function ec2Document(instance: NovaInstance, leaf: string): Reply {
  const leaves: Readonly<Record<string, string>> = {
    "instance-id": `i-${instance.instanceId.slice(0, 8)}`,
    hostname: instance.hostname,
    "local-hostname": instance.hostname,
    "local-ipv4": instance.localIpv4,
    "placement/availability-zone": "nova",
  };
  if (leaf === "")
    return text(200, ["hostname", "instance-id", "local-hostname", "local-ipv4", "placement/"].join("\n"));
  if (leaf === "placement/") return text(200, "availability-zone");
  const value = leaves[leaf];
  return value === undefined ? NOT_FOUND : text(200, value);
}

function pairs(headers: readonly string[]): string[] {
  const lines: string[] = [];
  for (let i = 0; i < headers.length; i += 2) lines.push(`${headers[i]}: ${headers[i + 1]}`);
  return lines;
}

function reasonOf(status: number): string {
  const reasons: Readonly<Record<number, string>> = {
    200: "OK",
    204: "No Content",
    304: "Not Modified",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    409: "Conflict",
    503: "Service Unavailable",
  };
  return reasons[status] ?? "Odd";
}
