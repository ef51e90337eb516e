import { randomUUID } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** A resource as Neutron speaks of it; unknown fields go through as they came. */
export type Resource = { id: string } & Record<string, unknown>;

/** What a request gets instead of its answer: a status, or no answer at all. */
export type Fault = { readonly status: number } | "hang";

type Reply =
  | { readonly status: number; readonly body: unknown; readonly headers: Record<string, string> }
  | "hang";

export interface Cloud {
  readonly ports: Resource[];
  readonly networks: Resource[];
  readonly subnets?: Resource[];
  readonly agents?: Resource[];
  /** Neutron's `pagination_max_limit`. */
  readonly pageSize?: number;
  /** Asked before every answer to Neutron requests; `n` counts from 1 per method and path. */
  readonly fault?: (method: string, path: string, n: number) => Fault | undefined;
}

/** Keystone v3 and Neutron v2.0 over HTTP on loopback, as far as the command-line clients ask them. */
export class FakeOpenStack {
  readonly ports: Map<string, Resource>;
  /** `METHOD /path` of every request, in order. */
  readonly requests: string[] = [];
  readonly password = `pass-${randomUUID()}`;
  readonly #cloud: Cloud;
  readonly #server: Server;
  readonly #token = randomUUID();
  readonly #seen = new Map<string, number>();
  readonly #collections: Readonly<Record<string, { one: string; all: () => Resource[] }>>;

  constructor(cloud: Cloud) {
    this.#cloud = cloud;
    this.ports = new Map(cloud.ports.map((port) => [port.id, port]));
    this.#collections = {
      ports: { one: "port", all: () => [...this.ports.values()] },
      networks: { one: "network", all: () => cloud.networks },
      subnets: { one: "subnet", all: () => cloud.subnets ?? [] },
      agents: { one: "agent", all: () => cloud.agents ?? [] },
      extensions: { one: "extension", all: () => [] },
    };
    this.#server = createServer((request, response) => {
      this.#answer(request)
        .catch((error): Reply => reply(500, { error: String(error) }))
        .then((answer) => send(response, answer));
    });
  }

  async listen(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** The variables of an `openrc` file for this cloud. */
  get env(): Record<string, string> {
    return {
      OS_AUTH_URL: `${this.url}/v3`,
      OS_USERNAME: "admin",
      OS_PASSWORD: this.password,
      OS_PROJECT_NAME: "admin",
      OS_USER_DOMAIN_ID: "default",
      OS_PROJECT_DOMAIN_ID: "default",
      OS_IDENTITY_API_VERSION: "3",
    };
  }

  count(method: string, path: string): number {
    return this.requests.filter((line) => line === `${method} ${path}`).length;
  }

  async #answer(request: IncomingMessage): Promise<Reply> {
    const url = new URL(request.url ?? "/", this.url);
    const path = url.pathname.replace(/(\.json|\/)$/, "");
    const method = request.method ?? "GET";
    this.requests.push(`${method} ${path}`);
    const body = await readJson(request);
    if (path === "/v3/auth/tokens" && method === "POST") return this.#logIn(body);
    if (path === "/v3") return reply(200, { version: version("v3.14", `${this.url}/v3/`) });
    if (path === "") {
      return reply(200, {
        versions: [{ ...version("v2.0", `${this.url}/v2.0/`), status: "CURRENT" }],
      });
    }
    if (request.headers["x-auth-token"] !== this.#token) return reply(401, keystoneError(401));
    const project = /^\/v3\/projects\/(?<id>[^/]+)$/.exec(path)?.groups?.["id"];
    if (project !== undefined) {
      return reply(200, { project: { id: project, name: project, domain_id: "default" } });
    }
    return this.#neutron(method, path, url, body);
  }

  #logIn(body: unknown): Reply {
    // As: the shape is the client's; a body without it throws and gives 500.
    const { auth } = body as { auth: { identity: { password: { user: { password: string } } } } };
    if (auth.identity.password.user.password !== this.password) return reply(401, keystoneError(401));
    const service = (type: string, url: string) => ({
      type,
      name: type,
      id: type,
      endpoints: ["public", "internal", "admin"].map((interfaceName) => ({
        id: `${type}-${interfaceName}`,
        interface: interfaceName,
        region: "RegionOne",
        region_id: "RegionOne",
        url,
      })),
    });
    return reply(
      201,
      {
        token: {
          methods: ["password"],
          issued_at: new Date().toISOString(),
          expires_at: new Date(Date.now() + 3_600_000).toISOString(),
          user: { id: "u", name: "admin", domain: { id: "default", name: "Default" } },
          project: { id: "p", name: "admin", domain: { id: "default", name: "Default" } },
          roles: [{ id: "r", name: "admin" }],
          is_domain: false,
          catalog: [service("network", this.url), service("identity", `${this.url}/v3`)],
        },
      },
      { "X-Subject-Token": this.#token },
    );
  }

  #neutron(method: string, path: string, url: URL, body: unknown): Reply {
    const n = (this.#seen.get(`${method} ${path}`) ?? 0) + 1;
    this.#seen.set(`${method} ${path}`, n);
    const fault = this.#cloud.fault?.(method, path, n);
    if (fault === "hang") return "hang";
    if (fault !== undefined) return reply(fault.status, neutronError("Injected", `status ${fault.status}`));
    const [, versionPath, name = "", id] = path.split("/");
    const collection = this.#collections[name];
    if (versionPath !== "v2.0" || collection === undefined) {
      return reply(404, neutronError("HTTPNotFound", "The resource could not be found."));
    }
    if (id === undefined) {
      if (method === "GET") return this.#list(name, collection.all(), url);
      if (method === "POST" && name === "ports") return this.#createPort(body);
    } else {
      const found = collection.all().find((resource) => resource.id === id);
      const message = `${collection.one} ${id} could not be found.`;
      if (found === undefined) return reply(404, neutronError("NotFound", message));
      if (method === "GET") return reply(200, { [collection.one]: found });
      if (method === "DELETE" && name === "ports") {
        this.ports.delete(id);
        return reply(204);
      }
    }
    return reply(405, neutronError("HTTPMethodNotAllowed", method));
  }

  #list(name: string, all: readonly Resource[], url: URL): Reply {
    const paging = new Set(["fields", "limit", "marker", "sort_key", "sort_dir", "page_reverse"]);
    const filters = [...url.searchParams].filter(([key]) => !paging.has(key));
    const matching = all.filter((resource) =>
      filters.every(([key]) => url.searchParams.getAll(key).includes(String(resource[key]))),
    );
    const marker = url.searchParams.get("marker");
    const start = marker === null ? 0 : matching.findIndex((resource) => resource.id === marker) + 1;
    const limit = Math.min(
      Number(url.searchParams.get("limit") ?? Infinity),
      this.#cloud.pageSize ?? Number.POSITIVE_INFINITY,
    );
    const page = matching.slice(start, start + limit);
    const links: unknown[] = [];
    if (start + page.length < matching.length) {
      const next = new URL(url);
      next.searchParams.set("marker", page.at(-1)?.id ?? "");
      links.push({ rel: "next", href: next.href });
    }
    const fields = url.searchParams.getAll("fields");
    const shown = page.map((resource) =>
      fields.length === 0
        ? resource
        : Object.fromEntries(Object.entries(resource).filter(([key]) => fields.includes(key))),
    );
    return reply(200, { [name]: shown, ...(links.length > 0 ? { [`${name}_links`]: links } : {}) });
  }

  #createPort(body: unknown): Reply {
    const { port } = body as { port: Record<string, unknown> };
    if ("id" in port) return reply(400, neutronError("HTTPBadRequest", "id: not allowed in POST"));
    const taken = [...this.ports.values()].some(
      (other) => other["network_id"] === port["network_id"] && other["mac_address"] === port["mac_address"],
    );
    if (taken) return reply(409, neutronError("MacAddressInUse", "MAC address is in use."));
    const made: Resource = {
      name: "",
      status: "DOWN",
      "binding:host_id": "",
      "binding:profile": {},
      ...port,
      id: randomUUID(),
    };
    made["project_id"] ??= made["tenant_id"];
    made["tenant_id"] ??= made["project_id"];
    this.ports.set(made.id, made);
    return reply(201, { port: made });
  }
}

export async function startOpenStack(cloud: Cloud): Promise<FakeOpenStack> {
  const openStack = new FakeOpenStack(cloud);
  await openStack.listen();
  return openStack;
}

/** A DHCP port as neutron-dhcp-agent makes it; `n` makes its addresses. */
export function dhcpPort(n: number, network: Resource, fields: Record<string, unknown> = {}): Resource {
  const low = `${(n >> 8) & 255}.${n & 255}`;
  const project = String(network["project_id"]);
  return {
    id: randomUUID(),
    name: "",
    network_id: network.id,
    project_id: project,
    tenant_id: project,
    mac_address: `fa:16:3e:00:${hex(n >> 8)}:${hex(n)}`,
    fixed_ips: [{ subnet_id: subnetOf(network).id, ip_address: `10.0.${low}` }],
    device_id: `dhcp${randomUUID()}-${network.id}`,
    device_owner: "network:dhcp",
    admin_state_up: true,
    status: "ACTIVE",
    "binding:host_id": "net1",
    "binding:profile": {},
    "binding:vnic_type": "normal",
    description: "",
    security_groups: [],
    tags: [],
    ...fields,
  };
}

/** The one subnet of a network; its id is made from the network's. */
export function subnetOf(network: { readonly id: string }): Resource {
  return { id: network.id.replace(/^.{8}/, "5ab0e700"), name: "s", network_id: network.id };
}

export function network(name: string): Resource {
  const id = randomUUID();
  return {
    id,
    name,
    project_id: randomUUID().replaceAll("-", ""),
    subnets: [subnetOf({ id }).id],
    status: "ACTIVE",
  };
}

function hex(value: number): string {
  return (value & 255).toString(16).padStart(2, "0");
}

function version(id: string, href: string) {
  return { id, status: "stable", links: [{ rel: "self", href }] };
}

function keystoneError(code: number) {
  return {
    error: { code, message: "The request you have made requires authentication.", title: "Unauthorized" },
  };
}

function neutronError(type: string, message: string) {
  return { NeutronError: { type, message, detail: "" } };
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk);
  return chunks.length === 0 ? undefined : JSON.parse(Buffer.concat(chunks).toString());
}

function reply(status: number, body?: unknown, headers: Record<string, string> = {}): Reply {
  return { status, body, headers };
}

function send(response: ServerResponse, answer: Reply): void {
  if (answer === "hang") return;
  const { status, body, headers } = answer;
  response.writeHead(status, { "Content-Type": "application/json", ...headers });
  response.end(body === undefined ? undefined : JSON.stringify(body));
}
