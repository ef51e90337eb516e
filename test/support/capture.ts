import { type ChildProcess, spawn } from "node:child_process";

/** `tcpdump` on a link, from the moment {@link Capture.start} resolves. */
export class Capture {
  readonly #child: ChildProcess;
  #text = "";

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  /** @param namespace Of the guest, or undefined for this process's own. */
  static async start(namespace: string | undefined, link: string, filter: string): Promise<Capture> {
    const tcpdump = ["tcpdump", "-i", link, "-nn", "-e", "-l", "--immediate-mode", filter];
    const [command = "", ...words] =
      namespace === undefined ? tcpdump : ["ip", "netns", "exec", namespace, ...tcpdump];
    const env = { ...process.env, PATH: `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin` };
    const child = spawn(command, words, { env, stdio: ["ignore", "pipe", "pipe"] });
    const capture = new Capture(child);
    child.stdout.on("data", (chunk: Buffer) => {
      capture.#text += chunk.toString();
    });
    await new Promise<void>((resolve, reject) => {
      let said = "";
      child.on("error", reject);
      child.on("close", () => reject(new Error(`tcpdump ended: ${said}`)));
      child.stderr.on("data", (chunk: Buffer) => {
        said += chunk.toString();
        if (said.includes("listening on")) resolve();
      });
    });
    return capture;
  }

  /** One line for each frame so far. */
  lines(): readonly string[] {
    return this.#text.split("\n").filter((line) => line !== "");
  }

  async stop(): Promise<readonly string[]> {
    const ended = new Promise((resolve) => this.#child.once("close", resolve));
    this.#child.kill("SIGINT");
    await ended;
    return this.lines();
  }
}
