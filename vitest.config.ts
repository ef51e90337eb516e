import { defineConfig } from "vitest/config";

/**
 * Three kinds of suite. `unit` files run side by side. `tools` are of the scripts of `tools/`, in whatever language.
 * `netns` files program the kernel of the namespace that the whole run lives in (scripts/test.mjs makes it), so they
 * take turns.
 */
export default defineConfig({
  test: {
    pool: "forks",
    testTimeout: 30_000,
    hookTimeout: 60_000,
    expect: { poll: { timeout: 10_000, interval: 20 } },
    projects: [
      {
        extends: true,
        test: {
          name: "unit",
          include: ["test/**/*.test.ts"],
          exclude: ["test/netns/**", "test/tools/**", "test/acceptance/**"],
        },
      },
      { extends: true, test: { name: "tools", include: ["test/tools/**/*.test.ts"] } },
      {
        extends: true,
        test: {
          name: "netns",
          include: ["test/netns/**/*.test.ts"],
          fileParallelism: false,
          testTimeout: 120_000,
        },
      },
    ],
  },
});
