/** One `key = value` line of an INI file. */
export interface IniEntry {
  /** The section's name; undefined before the first one. */
  readonly section: string | undefined;
  readonly key: string;
  readonly value: string;
}

/**
 * The entries of an INI text, in order, as MidoNet's parser reads them: `=` or `:` separates, `;` and `#` start a
 * comment at the line's beginning or after a blank, quotes are stripped, commas are kept. Lines that mean
 * nothing are left out.
 *
 * @source commons-configuration 1.8, HierarchicalINIConfiguration
 */
export function parseIni(text: string): IniEntry[] {
  const entries: IniEntry[] = [];
  let section: string | undefined;
  for (const raw of text.replace(/^\ufeff/, "").split(/\r\n|\n|\r/)) {
    const line = raw.trim();
    if (line === "" || line.startsWith(";") || line.startsWith("#")) continue;
    const header = /^\[(.*)\]/.exec(line);
    if (header !== null) {
      section = (header[1] ?? "").trim();
      continue;
    }
    const separator = line.search(/[=:]/);
    if (separator < 1) continue;
    entries.push({
      section,
      key: line.slice(0, separator).trim(),
      value: parseValue(line.slice(separator + 1).trim()),
    });
  }
  return entries;
}

function parseValue(text: string): string {
  const quote = text[0];
  if (quote !== '"' && quote !== "'") return text.replace(/\s[;#].*$/s, "").trim();
  let value = "";
  for (let i = 1; i < text.length && text[i] !== quote; i += 1) {
    if (text[i] === "\\" && text[i + 1] === quote) i += 1;
    value += text[i] ?? "";
  }
  return value;
}
