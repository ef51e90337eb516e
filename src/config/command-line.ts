/** A word as a shell has to be given it: in single quotes, unless it is plain. */
export function shellWord(text: string): string {
  return /^[\w./:=,-]+$/.test(text) ? text : quoted(text);
}

/**
 * `mn-conf set` for an operator to copy into a shell.
 *
 * @param options What stands before the text, such as {@link targetOf} gives it: with a blank behind it, or empty.
 */
export function setCommand(options: string, text: string): string {
  return `mn-conf set ${options}${quoted(text)}`;
}

/** The option of `mn-conf set` and `unset` that names a znode, with a blank behind it; empty if there is none. */
export function targetOf(znode: string | undefined): string {
  const [, kind, name] = /^\/config\/(nodes|templates)\/(.+)$/.exec(znode ?? "") ?? [];
  if (name === undefined) return "";
  return `${kind === "nodes" ? "-h" : "-t"} ${shellWord(name)} `;
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
