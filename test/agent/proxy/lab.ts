import { request as httpRequest } from "node:http";
import { connect, type Socket } from "node:net";
import type { Tenure, TenureLookup } from "../../../src/agent/ports/tenure.ts";
import { createProxy, type ProxyOptions } from "../../../src/agent/proxy/http-proxy.ts";
import type { Proxy as MetadataProxy } from "../../../src/agent/proxy/proxy.ts";
import type { ProxySettings } from "../../../src/agent/proxy/settings.ts";
import { Secret } from "../../../src/config/secret.ts";
import { type NovaInstance, type NovaOptions, StandInNova } from "../../support/nova.ts";

export const SECRET = "s3cret";

/** A port table of 127.0.0.x addresses: on Linux any of them may be a guest's source address. */
export class FakeTenures implements TenureLookup {
  inSync = true;
  readonly #rows = new Map<string, Tenure>();
  readonly #listeners = new Set<() => void>();

  tenureOf(peerAddress: string): Tenure | undefined {
    return this.#rows.get(peerAddress);
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  set(number: number, over: Partial<Tenure> = {}): Tenure {
    const tenure = { ...tenureOf(number), ...over };
    this.#rows.set(addressOf(number), tenure);
    this.#changed();
    return tenure;
  }

  remove(number: number): void {
    this.#rows.delete(addressOf(number));
    this.#changed();
  }

  syncNow(): void {
    this.inSync = true;
    this.#changed();
  }

  #changed(): void {
    for (const listener of this.#listeners) listener();
  }
}

export function addressOf(number: number): string {
  return `127.0.${number >> 8}.${number & 255}`;
}

export function tenureOf(number: number): Tenure {
  const tail = number.toString(16).padStart(12, "0");
  return {
    number,
    linkLocal: addressOf(number),
    portId: `aaaaaaaa-0000-4000-8000-${tail}`,
    interfaceName: `tap${number}`,
    fixedAddress: `10.0.${number >> 8}.${number & 255}`,
    instanceId: `bbbbbbbb-0000-4000-8000-${tail}`,
    projectId: `cccccccc00004000800${tail}`,
  };
}

export function instanceOf(number: number, userData?: Buffer): NovaInstance {
  const { instanceId, projectId, fixedAddress } = tenureOf(number);
  return {
    instanceId,
    projectId,
    hostname: `guest-${number}`,
    localIpv4: fixedAddress,
    ...(userData === undefined ? {} : { userData }),
  };
}

export function settingsFor(novaUrls: readonly string[], over: Partial<ProxySettings> = {}): ProxySettings {
  return {
    novaUrls,
    sharedSecret: new Secret(SECRET),
    previousSharedSecret: undefined,
    holdMs: 2_000,
    slowDocumentMs: 6_000,
    cacheTtlMs: 0,
    imdsv2: "optional",
    requestsPerSecond: 100_000,
    requestBurst: 100_000,
    tls: { caFile: undefined, certFile: undefined, keyFile: undefined, serverName: undefined },
    ...over,
  };
}

/** Log lines as they were written. */
export class FakeLog {
  readonly lines: { level: string; fields: Record<string, unknown>; message: string }[] = [];
  error = (fields: object, message: string): void => this.#add("error", fields, message);
  warn = (fields: object, message: string): void => this.#add("warn", fields, message);
  info = (fields: object, message: string): void => this.#add("info", fields, message);
  debug = (fields: object, message: string): void => this.#add("debug", fields, message);

  #add(level: string, fields: object, message: string): void {
    this.lines.push({ level, fields: { ...fields }, message });
  }
}

/** A proxy in front of a stand-in nova, with guests 1 to 9 known to both. */
export interface Lab extends AsyncDisposable {
  readonly nova: StandInNova;
  readonly proxy: MetadataProxy;
  readonly tenures: FakeTenures;
  readonly log: FakeLog;
  readonly settings: ProxySettings;
  readonly tcpPort: number;
}

export async function startLab(
  over: Partial<ProxySettings> = {},
  novaOptions: Partial<NovaOptions> = {},
  options: Pick<ProxyOptions, "stuckMs"> = {},
): Promise<Lab> {
  const instances = [1, 2, 3, 4, 5, 6, 7, 8, 9].map((number) => instanceOf(number));
  const nova = await StandInNova.start({ secret: SECRET, instances, ...novaOptions });
  const tenures = new FakeTenures();
  for (let number = 1; number <= 9; number++) tenures.set(number);
  const log = new FakeLog();
  const settings = settingsFor([nova.url], over);
  const proxy = createProxy({ tenures, settings, log, ...options });
  await proxy.listen({ host: "127.0.0.1", tcpPort: 0 });
  const tcpPort = Number(proxy.status().listening[0]?.split(":").at(-1));
  return {
    nova,
    proxy,
    tenures,
    log,
    settings,
    tcpPort,
    [Symbol.asyncDispose]: async () => {
      await proxy.close(0);
      await nova.close();
    },
  };
}

export interface Reply {
  readonly status: number;
  readonly rawHeaders: readonly string[];
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
  readonly text: string;
}

/** One request of a guest over a connection of its own, by node's client. */
export function ask(
  lab: { readonly tcpPort: number },
  guest: number,
  path: string,
  options: { method?: string; headers?: Record<string, string>; body?: Buffer | string } = {},
): Promise<Reply> {
  const { method = "GET", headers = {}, body } = options;
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      {
        host: "127.0.0.1",
        port: lab.tcpPort,
        localAddress: addressOf(guest),
        method,
        path,
        headers,
        agent: false,
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("error", reject);
        response.on("end", () => {
          const whole = Buffer.concat(chunks);
          const { statusCode = 0, rawHeaders, headers: parsed } = response;
          resolve({
            status: statusCode,
            rawHeaders,
            headers: parsed,
            body: whole,
            text: whole.toString("latin1"),
          });
        });
      },
    );
    request.on("error", reject);
    request.end(body);
  });
}

/** A guest's bare socket. */
export class RawGuest {
  readonly socket: Socket;
  received = Buffer.alloc(0);
  /** `open`, or how the connection ended. */
  state: "open" | "fin" | "rst" = "open";

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on("data", (chunk) => {
      this.received = Buffer.concat([this.received, chunk]);
    });
    socket.on("end", () => {
      if (this.state === "open") this.state = "fin";
    });
    socket.on("error", () => {
      this.state = "rst";
    });
  }

  static connect(lab: { readonly tcpPort: number }, guest: number): Promise<RawGuest> {
    return new Promise((resolve, reject) => {
      const socket = connect({
        host: "127.0.0.1",
        port: lab.tcpPort,
        localAddress: addressOf(guest),
        allowHalfOpen: true,
      });
      socket.once("error", reject);
      socket.once("connect", () => {
        socket.off("error", reject);
        resolve(new RawGuest(socket));
      });
    });
  }

  send(bytes: string | Buffer): void {
    this.socket.write(typeof bytes === "string" ? Buffer.from(bytes, "latin1") : bytes);
  }

  get text(): string {
    return this.received.toString("latin1");
  }

  /** The status of each answer that has come. */
  get statuses(): number[] {
    return [...this.text.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status]) => Number(status));
  }

  close(): void {
    this.socket.destroy();
  }
}

/** Sends bytes and gives what came back until the connection ended or `statuses` answers were there. */
export async function rawExchange(
  lab: { readonly tcpPort: number },
  guest: number,
  bytes: string | Buffer,
  answers = 1,
): Promise<RawGuest> {
  const raw = await RawGuest.connect(lab, guest);
  raw.send(bytes);
  await until(() => raw.state !== "open" || raw.statuses.length >= answers);
  raw.close();
  return raw;
}

/** Waits for a condition, with a deadline. */
export async function until(condition: () => boolean, deadlineMs = 10_000): Promise<void> {
  const deadline = performance.now() + deadlineMs;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`not within ${deadlineMs} ms: ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
