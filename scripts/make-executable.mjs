// npm links bins, but an operator also runs dist/agent/main.js by its path.
import { chmodSync, existsSync } from "node:fs";

for (const bin of ["dist/agent/main.js", "dist/config/mn-conf.js"]) {
  if (existsSync(bin)) chmodSync(bin, 0o755);
}
