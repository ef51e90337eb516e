import { leaves } from "./hocon/edit.ts";
import { renderPath } from "./hocon/path.ts";
import { asText } from "./hocon/read.ts";
import { type HoconNode, listOf, type ObjectNode, objectOf, stringOf } from "./hocon/tree.ts";
import { isSecretKey } from "./keys.ts";

/** Stands for a secret that is not shown. */
export const MASK = "********";

/** The same tree with a {@link MASK} for each secret. An empty one is shown, so that it can be seen to be missing. */
export function maskSecrets(root: ObjectNode): ObjectNode {
  return objectOf(
    new Map([...root.fields].map(([key, node]) => [key, maskField(key, node)])),
    root.sealed,
    root.origin,
  );
}

/** The keys whose value is the mask itself: what `dump` printed was given to `set`. */
export function maskedKeys(root: ObjectNode): readonly string[] {
  return leaves(root)
    .filter(({ path, node }) => path.some((key) => isSecretKey([key])) && asText(node) === MASK)
    .map(({ path }) => renderPath(path));
}

function maskField(key: string, node: HoconNode): HoconNode {
  if (node.kind === "object" && isSecretKey([key]))
    return objectOf(
      new Map([...node.fields].map(([inner, below]) => [inner, maskField(key, below)])),
      node.sealed,
      node.origin,
    );
  if (node.kind === "object") return maskSecrets(node);
  if (node.kind === "list")
    return listOf(
      node.items.map((item) => maskField(key, item)),
      node.origin,
    );
  if (!isSecretKey([key]) || node.kind === "null" || asText(node) === "") return node;
  return { ...stringOf(MASK), origin: node.origin };
}
