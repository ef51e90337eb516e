import { inspect } from "node:util";

/**
 * A text that may sign, and may not be seen: printing, inspecting, serialising or concatenating it gives
 * `[secret]`. Only {@link Secret.reveal} gives the text, so every use of it can be found by name.
 */
export class Secret {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  get isEmpty(): boolean {
    return this.#text === "";
  }

  /** The text itself, for a signature or for an operator who asked with `--show-secrets`. */
  reveal(): string {
    return this.#text;
  }

  equals(other: Secret): boolean {
    return this.#text === other.#text;
  }

  toString(): string {
    return "[secret]";
  }

  toJSON(): string {
    return "[secret]";
  }

  [inspect.custom](): string {
    return "[secret]";
  }
}
