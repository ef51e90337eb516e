import { watchConfig } from "../config/live.ts";
import { Agent, type AgentParts } from "./agent.ts";
import { controlSocketPath, serveControl } from "./control.ts";
import { explain } from "./explain.ts";
import { Releases } from "./releases.ts";
import { aborted } from "./shutdown.ts";
import { agentStatus, portRows } from "./status.ts";

/**
 * Runs until `signal` fires: follows the configuration, and serves while it says so.
 *
 * @throws {Error} What keeps it from starting, as a sentence with the remedy.
 */
export async function runAgent(parts: AgentParts, signal: AbortSignal): Promise<void> {
  const opened = new Releases();
  try {
    const agent = new Agent(parts);
    opened.add(parts.store.onSession((state, detail) => agent.tellSession(state, detail)));
    opened.add(
      await serveControl(controlSocketPath(parts.runFolder), {
        "/alive": () => true,
        "/status": () => agentStatus(agent),
        "/ports": () => portRows(agent),
        "/explain": (query) => explain(agent, query.get("what") ?? "", query.has("probe")),
      }),
    );
    const reading = watchConfig(parts.store, parts.hostId, {
      onConfig: (next) => void agent.follow(next),
      onProblems: (problems) => agent.tellProblems(problems),
      onAway: (reason) => agent.tellAway(reason),
    });
    // However long the NSDB takes, whoever wants to stop us does not wait for it.
    const config = await Promise.race([reading, aborted(signal)]);
    if (config === undefined) {
      parts.log.info({ signal: String(signal.reason) }, "stopping; the NSDB was not read yet");
      return;
    }
    opened.add(() => config.close());
    opened.add(() => agent.stop());
    await agent.begin(config.current);
    parts.log.info(
      { version: parts.version, host: parts.hostId, nsdb: parts.store.url },
      "mn-metadata is up",
    );
    await aborted(signal);
    parts.log.info({ signal: String(signal.reason) }, "stopping; the kernel is left as it is");
  } finally {
    await opened.close();
  }
}
