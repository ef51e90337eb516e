import { setTimeout as sleep } from "node:timers/promises";
import { WebSocket } from "undici";
import type { AgentProcess } from "../../test/support/agent.ts";

/** The heap of a running agent after a collection, in bytes, asked of V8 through the inspector of Node itself. */
export async function heapUsedOf(agent: AgentProcess): Promise<number> {
  const socket = new WebSocket(await inspectorOf(agent));
  await new Promise<void>((resolve, reject) => {
    socket.addEventListener("open", () => resolve());
    socket.addEventListener("error", () => reject(new Error("the inspector does not answer")));
  });
  const call = (id: number, method: string) =>
    new Promise<{ readonly usedSize?: number }>((resolve) => {
      socket.addEventListener("message", ({ data }) => {
        const reply = JSON.parse(String(data)) as { id?: number; result: { usedSize?: number } };
        if (reply.id === id) resolve(reply.result);
      });
      socket.send(JSON.stringify({ id, method }));
    });
  // The second one frees what finalizers of the first let go.
  await call(1, "HeapProfiler.collectGarbage");
  await call(2, "HeapProfiler.collectGarbage");
  const { usedSize } = await call(3, "Runtime.getHeapUsage");
  socket.close();
  if (usedSize === undefined) throw new Error("the inspector does not tell the size of the heap");
  return usedSize;
}

/** Opens the inspector if it is not open yet. @source Node: SIGUSR1, and what it then writes to standard error */
async function inspectorOf(agent: AgentProcess): Promise<string> {
  for (let waited = 0; waited < 500; waited++) {
    const line = agent.log.find((each) => each.includes("Debugger listening on ws://"));
    const [url] = /ws:\S+/.exec(line ?? "") ?? [];
    if (url !== undefined) return url;
    if (waited === 0) process.kill(agent.pid, "SIGUSR1");
    await sleep(10);
  }
  throw new Error("the agent does not open its inspector");
}
