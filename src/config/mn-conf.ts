#!/usr/bin/env node
import { readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
import type { GlobalOptions } from "./commands/nsdb.ts";
import type { Outcome } from "./commands/outcome.ts";
import type { QueryOptions } from "./commands/read.ts";
import type { ImportOptions, SetOptions } from "./commands/write.ts";

const EXIT_USAGE = 1;

const HOST = "the host with this id, or local for this one (which is meant if neither is given)";
const TEMPLATE = "the template with this name; default applies to every host";

const AFTER_HELP = `
What applies to a host, highest first:
  its own values (-h) > the template it is mapped to > template default > schemas (defaults)

Examples:
  mn-conf dump                                                  what applies to this host
  mn-conf get agent.openstack.metadata.enabled
  mn-conf set -t default 'agent.openstack.metadata.enabled : true'
  mn-conf set -t default 'agent.openstack.metadata.nova_metadata_url : "http://nova:8775"'
  mn-conf unset -t default agent.openstack.metadata.enabled
  mn-conf doc agent.openstack.metadata.hold_time

Values are HOCON: text with a : / # or other signs in it needs double quotes, the whole needs single ones.
Changes take effect on every host within a second; nothing needs a restart.

Exit codes: 0 done; 1 wrong arguments; 2 this host has no host id; 3 the NSDB cannot be reached;
            4 refused or failed, nothing was changed; 11 get: no such key`;

/** Translates argv; each command lives in `commands/` and is loaded only when it is asked for. */
function programOf(): Command {
  const program = new Command("mn-conf")
    .description("Reads and changes the configuration in the network state database (NSDB).")
    .helpOption("--help", "show this help; mn-conf COMMAND --help shows that of a command")
    .option(
      "--nsdb <url>",
      "zk://host:port,host:port/midonet or dir:/path (default: $MN_NSDB, $MIDO_ZOOKEEPER_HOSTS, ~/.midonetrc, /etc/midonet/midonet.conf, /etc/midolman/midolman.conf, 127.0.0.1:2181)",
    )
    .option("--host-id-file <file>", "file that holds host_uuid (default: /etc/midonet_host_id.properties)")
    .option("--create-host-id", "make a host id if this host has none; otherwise that is an error")
    .version(version())
    .addHelpText("after", AFTER_HELP);
  const globals = (): GlobalOptions => program.opts();
  const finish = async (outcome: Promise<Outcome>): Promise<void> => tell(await outcome);

  query(program, "dump", "print the configuration that applies to a host")
    .option("--show-secrets", "print secrets and passwords in clear")
    .action(async (options: QueryOptions) => {
      const { dump } = await import("./commands/read.ts");
      await finish(dump(options, globals()));
    });
  query(program, "get", "print one value, or the values below a key; exit code 11 if there is none")
    .argument("<key>", "such as agent.openstack.metadata.enabled")
    .option(
      "--show-secrets",
      "print secrets and passwords below the key in clear (the key itself is always shown)",
    )
    .action(async (key: string, options: QueryOptions) => {
      const { get } = await import("./commands/read.ts");
      await finish(get(key, options, globals()));
    });
  target(program, "set", "change values; those that are not named stay")
    .argument("[text...]", "HOCON: 'key : value'; read from standard input if it is not given")
    .option("-c, --clear", "remove all that is there first")
    .action(async (words: readonly string[], options: SetOptions) => {
      const { set } = await import("./commands/write.ts");
      await finish(set(words, options, globals()));
    });
  target(program, "unset", "remove a value, so that the next lower layer shows through")
    .argument("<key>")
    .action(async (key: string, options: SetOptions) => {
      const { unset } = await import("./commands/write.ts");
      await finish(unset(key, options, globals()));
    });
  target(program, "import", "store what a midolman.conf of old says")
    .requiredOption("-f, --file <file>", "INI file")
    .option("-a, --all", "also values that are equal to the schema's")
    .action(async (options: ImportOptions) => {
      const { importFile } = await import("./commands/write.ts");
      await finish(importFile(options, globals()));
    });
  command(program, "template-get", "print the template of a host")
    .option("-h, --host <id>", HOST)
    .option("-a, --all", "of all hosts")
    .action(async (options: { host?: string; all?: true }) => {
      const { templateGet } = await import("./commands/templates.ts");
      await finish(templateGet(options, globals()));
    });
  command(program, "template-set", "map a host to a template")
    .option("-h, --host <id>", HOST)
    .requiredOption("-t, --template <name>", "the template")
    .action(async (options: { host?: string; template: string }) => {
      const { templateSet } = await import("./commands/templates.ts");
      await finish(templateSet(options, globals()));
    });
  command(program, "template-clear", "leave a host with template default only")
    .option("-h, --host <id>", HOST)
    .action(async (options: { host?: string }) => {
      const { templateClear } = await import("./commands/templates.ts");
      await finish(templateClear(options, globals()));
    });
  command(program, "template-list", "list the templates, each with its hosts").action(async () => {
    const { templateList } = await import("./commands/templates.ts");
    await finish(templateList(globals()));
  });
  command(program, "hosts", "list the hosts that have values or a template of their own").action(async () => {
    const { hosts } = await import("./commands/templates.ts");
    await finish(hosts(globals()));
  });
  command(program, "doc", "explain one key, or all")
    .argument("[key]")
    .action(async (key: string | undefined) => {
      const { doc } = await import("./commands/schemas.ts");
      await finish(doc(key, globals()));
    });
  command(
    program,
    "deploy",
    "store the schema of mn-metadata's keys, if it is newer than the one there",
  ).action(async () => {
    const { deploy } = await import("./commands/schemas.ts");
    await finish(deploy(globals()));
  });
  command(program, "dump-bundled-config", "print the schema that deploy would store").action(async () => {
    const { dumpBundledConfig } = await import("./commands/schemas.ts");
    await finish(dumpBundledConfig());
  });
  return program;
}

function command(program: Command, name: string, description: string): Command {
  return program.command(name).description(description).helpOption("--help", "show this help");
}

function query(program: Command, name: string, description: string): Command {
  return command(program, name, description)
    .option("-h, --host <id>", HOST)
    .option(
      "-t, --template <name>",
      "only this template and default, without a host's values and the schemas",
    )
    .option("-H, --host-only", "only the host's own values")
    .option("-s, --schema", "only the schemas, with what they say of each key")
    .option("-j, --json", "as JSON")
    .option("-c, --comments", "say of each value what it is for, and where it is from");
}

function target(program: Command, name: string, description: string): Command {
  return command(program, name, description)
    .option("-h, --host <id>", HOST)
    .option("-t, --template <name>", TEMPLATE);
}

function version(): string {
  // Two levels up, from src/config and from dist/config alike.
  const text = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  const { version } = JSON.parse(text) as { version: string }; // Our own file.
  return version;
}

function tell({ out = "", notes = [], exitCode = 0 }: Outcome): void {
  process.stdout.write(out);
  for (const note of notes) process.stderr.write(`[mn-conf] ${note}\n`);
  process.exitCode = exitCode;
}

async function main(argv: readonly string[]): Promise<void> {
  const program = programOf();
  for (const each of [program, ...program.commands]) {
    each.exitOverride().configureOutput({ writeErr: () => undefined });
  }
  try {
    await program.parseAsync(argv);
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) return;
    process.exitCode = EXIT_USAGE;
    if (error.code === "commander.help") return program.outputHelp();
    const { message } = error;
    process.stdout.write(`[mn-conf] Error: ${message.replace(/^error: /, "")}; see mn-conf --help\n`);
  }
}

// A reader that has seen enough, such as head, is no failure.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
});
await main(process.argv);
