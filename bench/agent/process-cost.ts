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

/** What the CPUs of this machine have done, in 1/100 s. @source proc(5): `cpu` of /proc/stat */
export interface CpuTime {
  readonly worked: number;
  /** Wanted to work, and the hypervisor below let another machine run. */
  readonly stolen: number;
}

export function cpuTime(): CpuTime {
  const [line = ""] = readFileSync("/proc/stat", "utf8").split("\n");
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, stolen = 0] = line
    .split(/\s+/)
    .slice(1)
    .map(Number);
  return { worked: user + nice + system + irq + softirq, stolen };
}

/** Children that still run, such as the agent's `ip monitor`. */
export function childrenOf(pid: number): readonly number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean).map(Number);
}
