import { type Screened, screenRequest } from "./headers.ts";

/** What the headers of a port's last request were screened to: a client sends the same ones with each request. */
export class KnownHeaders {
  #raw: readonly string[] = [];
  #isHttp11 = false;
  #screened: Screened | undefined;

  /** As {@link screenRequest}. */
  screen(raw: readonly string[], isHttp11: boolean): Screened {
    const known = this.#screened;
    if (known !== undefined && isHttp11 === this.#isHttp11 && isSame(raw, this.#raw)) return known;
    const screened = screenRequest(raw, isHttp11);
    if (isWorthKeeping(raw)) {
      this.#raw = raw;
      this.#isHttp11 = isHttp11;
      this.#screened = screened;
    }
    return screened;
  }
}

function isSame(a: readonly string[], b: readonly string[]): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** A guest must not have the host keep what it likes. */
function isWorthKeeping(raw: readonly string[]): boolean {
  if (raw.length > MAX_STRINGS) return false;
  let length = 0;
  for (const text of raw) length += text.length;
  return length <= MAX_LENGTH;
}

const MAX_STRINGS = 24;
const MAX_LENGTH = 1_024;
