import type { ProxySettings } from "./settings.ts";
import { withoutQuery } from "./target.ts";

/**
 * Whether an answer under this path may be given twice: not a password, which the guest itself changes, nor
 * vendor data that nova fetches anew, nor meta_data.json, whose `random_seed` differs in each answer. Nova
 * decodes `%2f` and the like before it looks, so this does too.
 */
export function isCacheable(path: string): boolean {
  const decoded = percentDecoded(withoutQuery(path));
  return decoded !== undefined && !NEVER_AGAIN.test(decoded);
}

/** Whether nova itself asks somebody else for this document, so that it takes longer than the rest. */
export function isSlowDocument(path: string): boolean {
  return path.includes("vendor_data2");
}

/** How long nova may take over a document, in milliseconds. */
export function timeFor(
  path: string,
  { slowDocumentMs, holdMs }: Pick<ProxySettings, "slowDocumentMs" | "holdMs">,
): number {
  return isSlowDocument(path) ? slowDocumentMs : holdMs;
}

const NEVER_AGAIN = /password|vendor_data2|meta_data/i;

function percentDecoded(path: string): string | undefined {
  if (!path.includes("%")) return path;
  try {
    return decodeURIComponent(path);
  } catch {
    return undefined;
  }
}
