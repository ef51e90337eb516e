import { sortedKeys } from "./edit.ts";
import { renderPath } from "./path.ts";
import { renderNumber, renderString, renderStringBare } from "./render-text.ts";
import type { HoconNode, ListNode, MergeNode, ObjectNode } from "./tree.ts";

/** How a tree is written. */
export interface RenderStyle {
  /** JSON (with bare `${}` where a reference is left), else HOCON without outer braces. */
  readonly json: boolean;
  /** Lines to be written as comments above a value. */
  readonly commentsOf?: (path: readonly string[], node: HoconNode) => readonly string[];
}

/** How MidoNet writes a znode: JSON, sorted keys, four spaces, a line end at the end. */
export function renderStored(root: ObjectNode): string {
  return render(root, { json: true });
}

/**
 * Writes a value exactly as the reference implementation's formatted renderer does, its oddities included: an
 * object at the root ends with a line end, other values do not.
 */
export function render(node: HoconNode, style: RenderStyle): string {
  return new Renderer(style).value(node, { indent: 0, atRoot: true, path: [] });
}

interface Place {
  readonly indent: number;
  readonly atRoot: boolean;
  readonly path: readonly string[];
}

class Renderer {
  readonly #style: RenderStyle;

  constructor(style: RenderStyle) {
    this.#style = style;
  }

  value(node: HoconNode, place: Place): string {
    switch (node.kind) {
      case "object":
        return this.#object(node, place);
      case "list":
        return this.#list(node, place);
      case "string":
        return this.#style.json ? renderString(node.text) : renderStringBare(node.text);
      case "number":
        return renderNumber(node.text);
      case "boolean":
        return String(node.value);
      case "null":
        return "null";
      case "reference":
        return `\${${node.optional ? "?" : ""}${renderPath(node.path)}}`;
      case "concat":
        return node.pieces.map((piece) => this.value(piece, place)).join("");
      case "merge":
        return this.#merge(node, undefined, place);
    }
  }

  #object(node: ObjectNode, { indent, atRoot, path }: Place): string {
    const { json } = this.#style;
    const end = atRoot ? "\n" : "";
    if (node.fields.size === 0) return `{}${end}`;
    const braces = json || !atRoot;
    const inner = braces ? indent + 1 : indent;
    const fields = sortedKeys(node).map((key) => {
      const field = node.fields.get(key) ?? node;
      const place = { indent: inner, atRoot: false, path: [...path, key] };
      return `${this.#comments(field, place)}${tab(inner)}${this.#field(key, field, place)}`;
    });
    const body = fields.join(json ? ",\n" : "\n");
    return braces ? `{\n${body}\n${tab(indent)}}${end}` : `${body}${end}`;
  }

  #field(key: string, node: HoconNode, place: Place): string {
    if (node.kind === "merge") return this.#merge(node, key, place);
    return `${this.#keyed(key, node.kind === "object")}${this.value(node, place)}`;
  }

  #keyed(key: string, beforeObject: boolean): string {
    if (this.#style.json) return `${renderString(key)} : `;
    return `${renderStringBare(key)}${beforeObject ? " " : "="}`;
  }

  #list(node: ListNode, place: Place): string {
    if (node.items.length === 0) return "[]";
    const inner = { ...place, indent: place.indent + 1 };
    const items = node.items.map(
      (item) => `${this.#comments(item, inner)}${tab(inner.indent)}${this.value(item, inner)}`,
    );
    return `[\n${items.join(",\n")}\n${tab(place.indent)}]`;
  }

  /** The values of a merge one after the other, lowest first: read again, they merge as before. */
  #merge(node: MergeNode, key: string | undefined, place: Place): string {
    const before = key === undefined ? "" : `${tab(place.indent)}${renderString(key)} : `;
    const values = [...node.stack].reverse().map((value) => `${before}${this.value(value, place)}`);
    return `${values.join(",\n")}\n`;
  }

  #comments(node: HoconNode, place: Place): string {
    const lines = this.#style.commentsOf?.(place.path, node) ?? [];
    return lines.map((line) => `${tab(place.indent)}# ${line}\n`).join("");
  }
}

function tab(indent: number): string {
  return "    ".repeat(indent);
}
