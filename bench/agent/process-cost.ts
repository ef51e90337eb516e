import { readFileSync } from "node:fs";

/** What a process has used of the machine. */
export interface Cost {
  /** User and system time, its own and that of the children that it has waited for. */
  readonly cpuSeconds: number;
  readonly rssMiB: number;
}

/** @source proc(5): `utime`, `stime`, `cutime`, `cstime` of stat, in 1/100 s on Linux; `VmRSS` of status */
export function costOf(pid: number): Cost {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /, "")
    .split(" ");
  const ticks = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
  const [, kiB = "0"] = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
  return { cpuSeconds: ticks / 100, rssMiB: Number(kiB) / 1024 };
}

/** Children that still run, such as the agent's `ip monitor`. */
export function childrenOf(pid: number): readonly number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean).map(Number);
}
