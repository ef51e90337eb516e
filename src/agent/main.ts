#!/usr/bin/env -S MALLOC_TRIM_THRESHOLD_=131072 MALLOC_MMAP_THRESHOLD_=131072 node
// What the start leaves free in the C heaps of V8's threads goes back to the host so. @source measured: 7 MiB less
import { readFileSync } from "node:fs";
import { Command, CommanderError, Option } from "commander";
import type { GlobalOptions, PortBindOptions } from "./options.ts";

// They are this process's alone: nft, which it starts, is slower with them.
delete process.env["MALLOC_TRIM_THRESHOLD_"];
delete process.env["MALLOC_MMAP_THRESHOLD_"];

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

/** Translates argv; each command lives in `commands/` and is loaded only when it is asked for. */
async function main(argv: readonly string[]): Promise<void> {
  const program = new Command("mn-metadata")
    .description("OpenStack instance metadata, served to the guests of this compute host.")
    .version(packageVersion())
    .option(
      "--nsdb <url>",
      "network state database: zk://host:port,host:port/midonet or dir:/path (default: $MN_NSDB, else MidoNet's own bootstrap files)",
    )
    .option("--host-id-file <file>", "file that holds host_uuid (default: /etc/midonet_host_id.properties)")
    .addOption(
      new Option("--run-folder <folder>", "where the agent's control socket lives").default(
        "/run/mn-metadata",
      ),
    )
    .exitOverride()
    .showHelpAfterError("(mn-metadata --help shows what there is)");

  program
    .command("agent")
    .description("serve metadata to this host's guests, in the foreground, until told to stop")
    .option("--create-host-id", "make a host id if this host has none; otherwise that is an error")
    .action(async (options: { createHostId?: true }) => {
      const { agentCommand } = await import("./commands/agent.ts");
      await agentCommand(globals(), options.createHostId === true, packageVersion());
    });
  program
    .command("status")
    .description("what the running agent says of itself; exit code 0 if it serves or is told not to")
    .option("--json", "as JSON")
    .action(async (options: { json?: true }) => {
      const { statusCommand } = await import("./commands/status.ts");
      process.exitCode = await statusCommand(globals(), options.json === true);
    });
  program
    .command("ports")
    .description("the ports that are served: interface, fixed address, link-local address, instance")
    .option("--json", "as JSON")
    .action(async (options: { json?: true }) => {
      const { portsCommand } = await import("./commands/ports.ts");
      await portsCommand(globals(), options.json === true);
    });
  program
    .command("plan")
    .description("what the agent would change in the kernel now, as nft text; changes nothing")
    .action(async () => {
      const { planCommand } = await import("./commands/plan.ts");
      await planCommand(globals());
    });
  program
    .command("sweep")
    .description("remove everything of ours from the kernel; needs neither the agent nor the NSDB")
    .action(async () => {
      const { sweepCommand } = await import("./commands/sweep.ts");
      await sweepCommand(globals());
    });
  program
    .command("explain")
    .description("follow one guest through every step, and say in a sentence where it stands")
    .argument("<what>", "port UUID, interface, link-local address, or fixed address")
    .option("--probe", "also send a request through the real path in place")
    .option("--json", "as JSON")
    .action(async (what: string, options: { probe?: true; json?: true }) => {
      const { explainCommand } = await import("./commands/explain.ts");
      process.exitCode = await explainCommand(globals(), what, options.probe === true, options.json === true);
    });
  addPortCommands(program);

  await program.parseAsync(argv);

  function globals(): GlobalOptions {
    return program.opts<GlobalOptions>();
  }
}

function addPortCommands(program: Command): void {
  const port = program
    .command("port")
    .description("bind guests without MidoNet: write the NSDB objects that the agent reads");
  port
    .command("bind")
    .description("bind a port to an interface of this host")
    .requiredOption("--port <uuid>", "the Neutron port")
    .requiredOption("--interface <name>", "the tap that its guest is plugged into")
    .requiredOption("--instance <uuid>", "the nova server")
    .requiredOption("--project <id>", "the Keystone project")
    .requiredOption("--fixed-ip <address>", "a fixed address; again for each further one", collect, [])
    .requiredOption("--mac <address>", "the guest's MAC address")
    .option("--network <uuid>", "the Neutron network")
    .option("--create-host-id", "make a host id if this host has none; otherwise that is an error")
    .option("--force", "also on an NSDB that a MidoNet cluster owns")
    .action(async (options: PortBindOptions) => {
      const { portBindCommand } = await import("./commands/port.ts");
      await portBindCommand(program.opts<GlobalOptions>(), options);
    });
  port
    .command("unbind")
    .description("remove a binding that `port bind` made")
    .requiredOption("--port <uuid>", "the Neutron port")
    .option("--force", "also on an NSDB that a MidoNet cluster owns")
    .action(async (options: { port: string; force?: true }) => {
      const { portUnbindCommand } = await import("./commands/port.ts");
      await portUnbindCommand(program.opts<GlobalOptions>(), options.port, options.force === true);
    });
  port
    .command("list")
    .description("the ports that the NSDB binds to this host")
    .option("--json", "as JSON")
    .action(async (options: { json?: true }) => {
      const { portListCommand } = await import("./commands/port.ts");
      await portListCommand(program.opts<GlobalOptions>(), options.json === true);
    });
}

function collect(value: string, before: readonly string[]): readonly string[] {
  return [...before, value];
}

function packageVersion(): string {
  const text = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}

/** One sentence on standard error, and the exit code that belongs to it. */
function exitCodeFor(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_USAGE;
  const sentence = error instanceof Error ? error.message : String(error);
  process.stderr.write(`mn-metadata: ${sentence}\n`);
  return (error as { code?: unknown }).code === "usage" ? EXIT_USAGE : EXIT_FAILED;
}

main(process.argv).then(
  () => process.exit(),
  (error: unknown) => process.exit(exitCodeFor(error)),
);
