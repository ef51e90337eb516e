import { getAt, unsetAt } from "../../../src/config/hocon/edit.ts";
import { mergeObjects } from "../../../src/config/hocon/merge.ts";
import { parseHocon } from "../../../src/config/hocon/parser.ts";
import { parsePath } from "../../../src/config/hocon/path.ts";
import { asBoolean, asBytes, asMillis, asText } from "../../../src/config/hocon/read.ts";
import { render, renderStored } from "../../../src/config/hocon/render.ts";
import { resolve } from "../../../src/config/hocon/resolve.ts";
import { EMPTY, type HoconNode, type ObjectNode } from "../../../src/config/hocon/tree.ts";
import type { Answer, Question } from "../../support/hocon-oracle/oracle.ts";

/** Our answer to a question that the reference implementation was asked. */
export function evaluate(question: Question): Answer {
  try {
    const root = question.layers.map((text) => parseHocon(text, "case")).reduce(mergeObjects, EMPTY);
    const text = answer(root, question);
    return text === undefined ? { kind: "error", why: "undefined" } : { kind: "ok", text };
  } catch (error) {
    return { kind: "error", why: String(error) };
  }
}

function answer(root: ObjectNode, { operation, argument = "" }: Question): string | undefined {
  const value = (): HoconNode => {
    const found = getAt(resolve(root), parsePath(argument));
    if (found === undefined || found.kind === "null") throw new Error("missing");
    return found;
  };
  switch (operation) {
    case "stored":
      return renderStored(root);
    case "resolved":
      return render(resolve(root), { json: true });
    case "dumped":
      return render(resolve(root), { json: false });
    case "value":
      return render(value(), { json: false });
    case "value-json":
      return render(value(), { json: true });
    case "unset":
      return renderStored(unsetAt(root, parsePath(argument)));
    case "string":
      return asText(value());
    case "boolean":
      return asBoolean(value())?.toString();
    case "millis":
      return whole(asMillis(value()));
    case "bytes":
      return whole(asBytes(value()));
  }
}

function whole(number: number | undefined): string | undefined {
  return number === undefined ? undefined : BigInt(Math.trunc(number)).toString();
}
