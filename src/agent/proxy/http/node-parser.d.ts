// What node:http reads requests with. Node has no types for it and documents it by its own use alone.
declare module "node:_http_common" {
  /** @source node src/node_http_parser.cc, the same in Node 20, 22, 24 and 26 */
  export class HTTPParser {
    static readonly REQUEST: number;
    static readonly kOnMessageBegin: number;
    static readonly kOnHeaders: number;
    static readonly kOnHeadersComplete: number;
    static readonly kOnBody: number;
    static readonly kOnMessageComplete: number;
    static readonly kOnExecute: number;
    static readonly kLenientNone: number;
    /** What it calls, by the numbers above; `this` is the parser. */
    [event: number]: ((this: HTTPParser, ...facts: never[]) => unknown) | undefined;
    /** Begins anew. */
    initialize(type: number, asyncResource: object, maxHeaderSize: number, leniency: number): void;
    /** Reads what a socket's handle receives, and calls `kOnExecute` with what {@link execute} would return. */
    consume(handle: SocketHandle): void;
    unconsume(): void;
    /** While `kOnExecute` is called: what was received. */
    getCurrentBuffer(): Buffer;
    /** @returns How many bytes were read (fewer after a request to upgrade), or why they are not HTTP. */
    execute(bytes: Buffer): number | Error;
    /** Nothing more will come. */
    finish(): Error | undefined;
  }

  export interface SocketHandle {
    readStart(): number;
    readStop(): number;
  }
}
