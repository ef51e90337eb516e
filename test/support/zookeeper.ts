import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** One real ZooKeeper server on loopback, on a free port, with a folder of its own that goes with it. */
export class ZookeeperServer {
  readonly tcpPort: number;
  readonly #folder: string;
  readonly host: string;
  readonly #heapMiB: number;
  #process: ChildProcess | undefined;
  #exited: Promise<unknown> = Promise.resolve();

  constructor(folder: string, tcpPort: number, host = "127.0.0.1", heapMiB = 96) {
    this.#folder = folder;
    this.#heapMiB = heapMiB;
    this.tcpPort = tcpPort;
    this.host = host;
  }

  /** `host:port`. */
  get address(): string {
    return this.host.includes(":") ? `[${this.host}]:${this.tcpPort}` : `${this.host}:${this.tcpPort}`;
  }

  /** Starts the process without waiting until it serves. */
  launch(): void {
    const jars = ["/usr/share/java/zookeeper.jar"];
    const flags = [
      "-Xms16m",
      `-Xmx${this.#heapMiB}m`,
      "-XX:+UseSerialGC",
      "-XX:TieredStopAtLevel=1",
      "-Xshare:auto",
    ];
    const main = "org.apache.zookeeper.server.quorum.QuorumPeerMain";
    this.#process = spawn(
      "java",
      [
        ...flags,
        "-Dzookeeper.jmx.log4j.disable=true",
        "-Djute.maxbuffer=4194304",
        "-Dzookeeper.forceSync=no",
        "-cp",
        jars.join(":"),
        main,
        join(this.#folder, "zoo.cfg"),
      ],
      { stdio: "ignore" },
    );
    this.#exited = once(this.#process, "exit");
  }

  async start(): Promise<void> {
    this.launch();
    await this.serving();
  }

  /** Until it answers that it takes writes: `ruok` would say so too early. */
  async serving(): Promise<void> {
    const deadline = Date.now() + 30_000;
    while ((await this.ask("isro")) !== "rw") {
      if (Date.now() > deadline) throw new Error(`ZooKeeper at ${this.address} does not serve after 30 s`);
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
  }

  /** The answer to a four-letter command, or undefined where there is none. */
  ask(command: string): Promise<string | undefined> {
    return new Promise((resolve) => {
      const socket = connect({ host: this.host, port: this.tcpPort });
      let answer = "";
      socket.setTimeout(1_000, () => socket.destroy());
      socket.on("connect", () => socket.write(command));
      socket.on("data", (chunk) => {
        answer += chunk.toString("utf8");
      });
      socket.on("error", () => undefined);
      socket.on("close", () => resolve(answer === "" ? undefined : answer));
    });
  }

  /** `leader`, `follower`, `standalone`, or undefined when it does not serve. */
  async mode(): Promise<string | undefined> {
    return /^Mode: (\w+)$/m.exec((await this.ask("srvr")) ?? "")?.[1];
  }

  /** The number of sessions connected to it, without the one that asks. */
  async connections(): Promise<number> {
    const lines = ((await this.ask("cons")) ?? "").split("\n").filter((line) => line.includes("sid="));
    return lines.length;
  }

  /** The session of the client that connected from there. */
  async sessionOf(clientTcpPort: number): Promise<string | undefined> {
    const lines = ((await this.ask("cons")) ?? "").split("\n");
    const line = lines.find((each) => each.includes(`:${clientTcpPort}[`));
    return /sid=0x([0-9a-f]+)/.exec(line ?? "")?.[1]?.padStart(16, "0");
  }

  async watches(): Promise<number> {
    return Number(/zk_watch_count\s+(\d+)/.exec((await this.ask("mntr")) ?? "")?.[1] ?? Number.NaN);
  }

  async kill(): Promise<void> {
    const running = this.#process;
    this.#process = undefined;
    if (running?.exitCode !== null || running.signalCode !== null) return;
    running.kill("SIGKILL");
    await this.#exited;
  }

  /** Forgets everything; while it does not run. */
  async wipe(): Promise<void> {
    await rm(join(this.#folder, "data", "version-2"), { recursive: true, force: true });
  }

  /** It keeps its connections, and is silent. */
  stop(): void {
    this.#process?.kill("SIGSTOP");
  }

  cont(): void {
    this.#process?.kill("SIGCONT");
  }
}

export interface ZookeeperOptions {
  /** The servers' unit of time; the shortest session has two, the longest twenty. */
  readonly tickMs?: number;
  readonly host?: string;
  /** It keeps its last 500 changes there, so many changes of a large znode need more. @source ZooKeeper's own default is 1,000 */
  readonly heapMiB?: number;
}

/** A server that serves. */
export async function startZookeeper(
  options: ZookeeperOptions = {},
): Promise<ZookeeperServer & { cleanUp(): Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), "zookeeper-"));
  const host = options.host ?? "127.0.0.1";
  const [tcpPort = 0] = await freeTcpPorts(1);
  await writeConfig(folder, host, tcpPort, options.tickMs ?? 500, []);
  const server = new ZookeeperServer(folder, tcpPort, host, options.heapMiB);
  await server.start();
  return Object.assign(server, {
    async cleanUp() {
      await server.kill();
      await rm(folder, { recursive: true, force: true });
    },
  });
}

export interface ZookeeperEnsemble {
  readonly servers: readonly ZookeeperServer[];
  /** `host:port,host:port,host:port` */
  readonly addresses: string;
  leader(): Promise<ZookeeperServer>;
  /** The servers that have a session of ours. */
  connectedTo(): Promise<ZookeeperServer[]>;
  cleanUp(): Promise<void>;
}

/** Three servers that serve. */
export async function startEnsemble(options: ZookeeperOptions = {}): Promise<ZookeeperEnsemble> {
  const host = options.host ?? "127.0.0.1";
  const folder = await mkdtemp(join(tmpdir(), "zookeeper-"));
  const tcpPorts = await freeTcpPorts(9);
  const peers = [0, 1, 2].map((i) => `server.${i + 1}=127.0.0.1:${tcpPorts[3 + i]}:${tcpPorts[6 + i]}`);
  const servers: ZookeeperServer[] = [];
  for (const i of [0, 1, 2]) {
    const own = join(folder, String(i + 1));
    await mkdir(own);
    await writeConfig(own, host, tcpPorts[i] ?? 0, options.tickMs ?? 200, peers);
    await writeFile(join(own, "data", "myid"), `${i + 1}\n`);
    servers.push(new ZookeeperServer(own, tcpPorts[i] ?? 0, host));
  }
  for (const server of servers) server.launch();
  for (const server of servers) await server.serving();
  return {
    servers,
    addresses: servers.map((server) => server.address).join(","),
    async leader() {
      for (;;) {
        for (const server of servers) if ((await server.mode()) === "leader") return server;
        await new Promise((resolve) => setTimeout(resolve, 25));
      }
    },
    async connectedTo() {
      const counts = await Promise.all(servers.map((server) => server.connections()));
      return servers.filter((_, i) => (counts[i] ?? 0) > 0);
    },
    async cleanUp() {
      for (const server of servers) await server.kill();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Loopback ports that nobody listens on, outside the range that the kernel gives to connections. */
export async function freeTcpPorts(count: number): Promise<number[]> {
  const found: number[] = [];
  while (found.length < count) {
    const tcpPort = 10_000 + Math.floor(Math.random() * 20_000);
    const server = createServer();
    const isFree = await new Promise<boolean>((resolve) => {
      server.once("error", () => resolve(false));
      server.listen({ host: "::", port: tcpPort }, () => resolve(true));
    });
    if (!isFree) continue;
    server.close();
    await once(server, "close");
    if (!found.includes(tcpPort)) found.push(tcpPort);
  }
  return found;
}

async function writeConfig(
  folder: string,
  host: string,
  tcpPort: number,
  tickMs: number,
  peers: readonly string[],
): Promise<void> {
  await mkdir(join(folder, "data"), { recursive: true });
  const lines = [
    `tickTime=${tickMs}`,
    "initLimit=50",
    "syncLimit=10",
    `dataDir=${join(folder, "data")}`,
    `clientPortAddress=${host}`,
    `clientPort=${tcpPort}`,
    "maxClientCnxns=0",
    "admin.enableServer=false",
    "4lw.commands.whitelist=*",
    ...peers,
  ];
  await writeFile(join(folder, "zoo.cfg"), `${lines.join("\n")}\n`);
}
