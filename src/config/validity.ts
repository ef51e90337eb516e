import { isIPv4 } from "node:net";

/** Functions that say why a value of the right type is refused, as the rest of a sentence: "it is …, but should be …". */

const LEVELS = new Set(["off", "error", "warn", "info", "debug", "trace", "all"]);

/** @param unit Printed behind the limits. */
export function refuseOutside(least: number, most: number, unit = ""): (value: number) => string | undefined {
  const suffix = unit === "" ? "" : ` ${unit}`;
  return (value) =>
    value >= least && value <= most ? undefined : `it should be from ${least} to ${most}${suffix}`;
}

/** For a comma list of `http://`, `https://` and `unix:` URLs. */
export function refuseNovaUrls(list: string): string | undefined {
  const urls = splitList(list);
  if (urls.length === 0) return "it should name at least one URL, such as http://nova:8775";
  for (const url of urls) {
    const why = refuseNovaUrl(url);
    if (why !== undefined) return why;
  }
  return undefined;
}

/** The items of a comma list. */
export function splitList(list: string): readonly string[] {
  return list
    .split(",")
    .map((item) => item.trim())
    .filter((item) => item !== "");
}

/** For an absolute path, or nothing. */
export function refuseFile(path: string): string | undefined {
  return path === "" || /^\/[^\0]*[^/\0]$/.test(path) ? undefined : "it should be an absolute path, or empty";
}

/** For a host name, or nothing. */
export function refuseServerName(name: string): string | undefined {
  return name === "" || /^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$/.test(name)
    ? undefined
    : "it should be a host name, or empty";
}

/** For the name of a log level. @source logback's Level.toLevel */
export function refuseLevel(level: string): string | undefined {
  return LEVELS.has(level.toLowerCase())
    ? undefined
    : "it should be OFF, ERROR, WARN, INFO, DEBUG, TRACE or ALL";
}

/** For networks inside 169.254/16: anything else cannot be given to a guest in the first place. */
export function refuseLinkLocalRanges(ranges: readonly string[]): string | undefined {
  const wrong = ranges.find((range) => {
    const [address = "", length = "32", ...more] = range.split("/");
    const inside = isIPv4(address) && address.startsWith("169.254.");
    return (
      !inside || more.length > 0 || !/^\d{1,2}$/.test(length) || Number(length) < 16 || Number(length) > 32
    );
  });
  return wrong === undefined ? undefined : `"${wrong}" should be a network inside 169.254.0.0/16`;
}

function refuseNovaUrl(url: string): string | undefined {
  const forms = "it should be http://host:port, https://host:port or unix:/path";
  if (/[\s\p{Cc}]/u.test(url)) return `${forms}, without blanks`;
  if (url.startsWith("unix:")) return /^unix:(\/\/)?\/[^/]/.test(url) ? undefined : forms;
  if (!/^https?:\/\/[^/]/i.test(url) || !URL.canParse(url)) return forms;
  const { username, password, search, hash } = new URL(url);
  if (username !== "" || password !== "") return "it should have no user and no password";
  return search === "" && hash === "" ? undefined : "it should have no query and no fragment";
}
