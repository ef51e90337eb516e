import { leaves } from "./hocon/edit.ts";
import { renderPath } from "./hocon/path.ts";
import { asText } from "./hocon/read.ts";
import { type HoconNode, listOf, type ObjectNode, objectOf, stringOf } from "./hocon/tree.ts";
import { isSecretKey } from "./keys.ts";

/** Stands for a secret that is not shown. */
export const MASK = "********";

/** The same tree with a {@link MASK} for each secret. An empty one is shown, so that it can be seen to be missing. */
export function maskSecrets(root: ObjectNode): ObjectNode {
  return maskFields(root, false);
}

/** As {@link maskSecrets} for a value that stands at a path: all of it is secret if a key of the path says so. */
export function maskBelow(path: readonly string[], node: HoconNode): HoconNode {
  return mask(node, path.some(isSecret));
}

/** The keys whose value is the mask itself, or holds it in a list: what `dump` printed was given to `set`. */
export function maskedKeys(root: ObjectNode): readonly string[] {
  return leaves(root)
    .filter(({ path, node }) => holdsMask(node, path.some(isSecret)))
    .map(({ path }) => renderPath(path));
}

function isSecret(key: string): boolean {
  return isSecretKey([key]);
}

function mask(node: HoconNode, secret: boolean): HoconNode {
  if (node.kind === "object") return maskFields(node, secret);
  if (node.kind === "list")
    return listOf(
      node.items.map((item) => mask(item, secret)),
      node.origin,
    );
  if (!secret || node.kind === "null" || asText(node) === "") return node;
  return { ...stringOf(MASK), origin: node.origin };
}

function maskFields({ fields, sealed, origin }: ObjectNode, secret: boolean): ObjectNode {
  return objectOf(
    new Map([...fields].map(([key, below]) => [key, mask(below, secret || isSecret(key))])),
    sealed,
    origin,
  );
}

function holdsMask(node: HoconNode, secret: boolean): boolean {
  if (node.kind === "object")
    return [...node.fields].some(([key, below]) => holdsMask(below, secret || isSecret(key)));
  if (node.kind === "list") return node.items.some((item) => holdsMask(item, secret));
  return secret && asText(node) === MASK;
}
