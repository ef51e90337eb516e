/** Colours only where a terminal can show them. */
const color = process.stdout.isTTY && process.env["NO_COLOR"] === undefined;

function paint(code: number, text: string): string {
  return color ? `\u001b[${code}m${text}\u001b[0m` : text;
}

export const bold = (text: string) => paint(1, text);
export const dim = (text: string) => paint(2, text);
export const green = (text: string) => paint(32, text);
export const red = (text: string) => paint(31, text);

/** A line of what is going on, with the time since the start. */
export function step(text: string): void {
  const seconds = (performance.now() / 1_000).toFixed(1).padStart(5);
  process.stdout.write(`${dim(`${seconds} s`)}  ${text}\n`);
}

/** A framed table; the last column's words are green or red by `good`. */
export function table(
  head: readonly string[],
  rows: readonly { cells: readonly string[]; good: boolean }[],
): string {
  const widths = head.map((title, column) =>
    Math.max(title.length, ...rows.map(({ cells }) => (cells[column] ?? "").length)),
  );
  const rule = (left: string, middle: string, right: string) =>
    dim(left + widths.map((width) => "─".repeat(width + 2)).join(middle) + right);
  const line = (cells: readonly string[], dress: (text: string, column: number) => string) =>
    dim("│") +
    cells.map((cell, column) => ` ${dress(cell.padEnd(widths[column] ?? 0), column)} `).join(dim("│")) +
    dim("│");
  return [
    rule("┌", "┬", "┐"),
    line(head, (text) => bold(text)),
    rule("├", "┼", "┤"),
    ...rows.map(({ cells, good }) =>
      line(cells, (text, column) => (column === head.length - 1 ? (good ? green : red)(text) : text)),
    ),
    rule("└", "┴", "┘"),
  ].join("\n");
}
