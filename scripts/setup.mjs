// Brings a fresh Debian 12 machine with Node, git and root to where `npm run demo` or `npm test` can run.
// Plain JavaScript without dependencies, because it runs before there are any. Does nothing twice.
//   node scripts/setup.mjs [demo|test]
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const purpose = process.argv[2] ?? "test";
const PACKAGES = {
  demo: { nft: "nftables", ip: "iproute2", unshare: "util-linux" },
  test: {
    nft: "nftables",
    ip: "iproute2",
    ss: "iproute2",
    unshare: "util-linux",
    curl: "curl",
    tcpdump: "tcpdump",
    ping: "iputils-ping",
    pgrep: "procps",
    sysctl: "procps",
    ethtool: "ethtool",
    java: "default-jdk-headless",
    javac: "default-jdk-headless",
    openssl: "openssl",
    "/usr/share/java/zookeeper.jar": "zookeeper",
    "/usr/share/java/typesafe-config.jar": "libtypesafe-config-java",
    "/usr/lib/python3/dist-packages/scapy/__init__.py": "python3-scapy",
    "/usr/bin/openstack": "python3-openstackclient",
    "/usr/bin/neutron": "python3-neutronclient",
    shellcheck: "shellcheck",
  },
};

const wanted = PACKAGES[purpose];
if (wanted === undefined) fail(`unknown purpose "${purpose}": demo or test`, 2);

const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
if (major < 20 || (major === 20 && minor < 19)) {
  fail(`Node ${process.versions.node} is too old: mn-metadata needs 20.19 or newer`);
}

installSystemPackages();
installNodePackages();
build();

function installSystemPackages() {
  const missing = [
    ...new Set(
      Object.entries(wanted)
        .filter(([what]) => !present(what))
        .map(([, name]) => name),
    ),
  ];
  if (missing.length === 0) return;
  if (process.getuid?.() !== 0) {
    fail(
      `these Debian packages are missing, and installing them needs root:\n  apt-get install ${missing.join(" ")}`,
    );
  }
  say(`installing Debian packages: ${missing.join(" ")}`);
  const options = { env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" } };
  // Debian starts a service on install; zookeeper alone ships no unit, and a policy stops the rest.
  run("apt-get", ["-q", "-o", "DPkg::Lock::Timeout=600", "update"], options);
  run(
    "apt-get",
    ["-q", "-y", "-o", "DPkg::Lock::Timeout=600", "install", "--no-install-recommends", ...missing],
    options,
  );
  const still = Object.keys(wanted).filter((what) => !present(what));
  if (still.length > 0) fail(`still missing after apt-get: ${still.join(", ")}`);
}

function installNodePackages() {
  const stamp = "node_modules/.mn-metadata-lock";
  const lock = readFileSync("package-lock.json", "utf8");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === lock) return;
  say("installing npm packages");
  // No package of ours needs an install script (netlink ships prebuilt binaries), so none is run.
  run("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
  writeFileSync(stamp, lock);
}

function build() {
  const built = "dist/agent/main.js";
  const sources = ["package.json", "tsconfig.json", "tsconfig.build.json", ...filesBelow("src")];
  if (existsSync(built) && sources.every((file) => statSync(file).mtimeMs <= statSync(built).mtimeMs)) return;
  say("building");
  run("npm", ["run", "--silent", "build"]);
}

function filesBelow(folder) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name));
}

function present(what) {
  if (what.startsWith("/")) return existsSync(what);
  const path = `${process.env.PATH ?? ""}:/usr/sbin:/sbin`;
  return path.split(":").some((folder) => folder !== "" && existsSync(join(folder, what)));
}

function run(command, args, options = {}) {
  const { status, error } = spawnSync(command, args, { stdio: ["ignore", "inherit", "inherit"], ...options });
  if (error !== undefined || status !== 0)
    fail(`"${command} ${args.join(" ")}" failed (${error?.message ?? `exit ${status}`})`);
}

function say(text) {
  process.stdout.write(`setup: ${text}\n`);
}

function fail(text, code = 1) {
  process.stderr.write(`setup: ${text}\n`);
  process.exit(code);
}
