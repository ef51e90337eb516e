import { render } from "./hocon/render.ts";
import { type HoconNode, listOf, objectOf, stringOf } from "./hocon/tree.ts";
import { maskBelow } from "./mask.ts";

const LONGEST = 200;

/**
 * A value for a sentence: one line of at most some 200 characters, with no secret that its keys name, and no password
 * of a URL. Whether the value itself is a secret is for the caller to know.
 */
export function inOneLine(node: HoconNode): string {
  const text = render(withoutPasswords(maskBelow([], node)), { json: true })
    .replace(/\s+/g, " ")
    .trim();
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
}

function withoutPasswords(node: HoconNode): HoconNode {
  switch (node.kind) {
    case "object":
      return objectOf(new Map([...node.fields].map(([key, below]) => [key, withoutPasswords(below)])));
    case "list":
      return listOf(node.items.map(withoutPasswords));
    case "string":
      // Up to the last "@": what is no URL for want of an escape has "/", blanks and "@" in its password.
      return { ...node, text: node.text.replace(/^([a-z][a-z\d+.-]*:\/\/)?.*@/is, "$1…@") };
    case "concat":
    case "merge":
      return stringOf("…");
    default:
      return node;
  }
}
