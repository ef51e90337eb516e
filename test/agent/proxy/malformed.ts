/** What a bad guest does on one connection: sends these bytes (one character each) in these pieces, and leaves or not. */
export interface Malice {
  readonly pieces: readonly string[];
  /** `wait`: for answers. `fin`, `rst`: says at once that it has no more to say, or is gone. */
  readonly ending: "wait" | "fin" | "rst";
}

/** The same malice for the same number: all kinds in turn, each different every time. */
export function maliceOf(turn: number): Malice {
  const random = randomFrom(turn);
  const families = Object.values(FAMILIES);
  const family = families[turn % families.length] as Family;
  const bytes = family(random, Math.floor(turn / families.length), `/m${turn}`);
  const pieces = cut(bytes, random);
  return { pieces, ending: random.below(8) === 0 ? "fin" : random.below(8) === 0 ? "rst" : "wait" };
}

type Family = (random: Random, round: number, path: string) => string;

interface Random {
  below(limit: number): number;
  pick<T>(items: readonly T[]): T;
}

const HOST = "Host: 169.254.169.254\r\n";
/** Hidden behind something malformed; nova must never see it. */
const HIDDEN = `GET /hidden HTTP/1.1\r\n${HOST}\r\n`;
const ODD_BYTES = [
  "\0",
  "\r",
  "\n",
  "\r\n",
  "\r\n\r\n",
  "\x0b",
  "\x0c",
  "\x7f",
  "\x80",
  " ",
  "\t",
  ":",
  "\x01",
];

const FAMILIES: Readonly<Record<string, Family>> = {
  "an odd byte in every place": (random, round, path) => {
    const bytes = round % 2 === 0 ? get(path) : post(path);
    const at = Math.floor(round / 2) % (bytes.length + 1);
    return bytes.slice(0, at) + random.pick(ODD_BYTES) + bytes.slice(at);
  },
  "a byte changed": (random, _round, path) => {
    const bytes = random.pick([get, post, chunked])(path);
    const at = random.below(bytes.length);
    return bytes.slice(0, at) + String.fromCharCode(random.below(256)) + bytes.slice(at + 1);
  },
  "bytes missing or doubled": (random, _round, path) => {
    const bytes = random.pick([get, post, chunked])(path);
    const at = random.below(bytes.length);
    const end = at + 1 + random.below(12);
    return random.below(2) === 0
      ? bytes.slice(0, at) + bytes.slice(end)
      : bytes.slice(0, end) + bytes.slice(at);
  },
  "cut off": (random, _round, path) => {
    const bytes = random.pick([get, post, chunked])(path);
    return bytes.slice(0, random.below(bytes.length));
  },
  "two lengths": (random, _round, path) => {
    const lengths = [
      "5",
      "05",
      "+5",
      "-5",
      "5, 5",
      "5,6",
      "5 5",
      "0x5",
      "5.0",
      "5e0",
      "",
      "9".repeat(25),
      "\xb5",
    ];
    const again = random.below(2) === 0 ? "" : `Content-Length: ${random.pick(lengths)}\r\n`;
    return `POST ${path} HTTP/1.1\r\n${HOST}Content-Length: ${random.pick(lengths)}\r\n${again}\r\nabcde${HIDDEN}`;
  },
  "length and chunks": (random, _round, path) => {
    const coding = `${random.pick(["Transfer-Encoding", "transfer-encoding", "Transfer_Encoding"])}${random.pick(CODINGS)}\r\n`;
    const length = `Content-Length: ${random.pick(["5", "0", "6", "400"])}\r\n`;
    const both = random.below(2) === 0 ? coding + length : length + coding;
    return `POST ${path} HTTP/1.1\r\n${HOST}${both}\r\n0\r\n\r\n${HIDDEN}`;
  },
  "odd codings": (random, _round, path) => {
    const second = random.below(3) === 0 ? `Transfer-Encoding${random.pick(CODINGS)}\r\n` : "";
    return `POST ${path} HTTP/1.${random.below(2)}\r\n${HOST}Transfer-Encoding${random.pick(CODINGS)}\r\n${second}\r\n5\r\nabcde\r\n0\r\n\r\n${HIDDEN}`;
  },
  "odd chunks": (random, _round, path) => {
    const chunks = [
      ...["g\r\nabcde\r\n", "-5\r\nabcde\r\n", "0x5\r\nabcde\r\n", "5\nabcde\r\n", "5\r\nabcdef\r\n"],
      ...[
        "5\r\nabcde",
        "5 \r\nabcde\r\n",
        "5;\nabcde\r\n",
        `${"0".repeat(40)}5\r\nabcde\r\n`,
        "\r\nabcde\r\n",
      ],
      ...["5;a=\0\r\nabcde\r\n", `5;${"a".repeat(20_000)}\r\nabcde\r\n`, "ffffffffffffffff1\r\nabcde\r\n"],
      ...["5\r\r\nabcde\r\n", "5\r\nabcde\n", "5\r\nabcde\r", "+5\r\nabcde\r\n", " 5\r\nabcde\r\n"],
    ];
    const trailer = random.pick(["", "A: b\r\n", "X-Instance-ID: x\r\n", "A\r\n", " a: b\r\n", "A: \0\r\n"]);
    return `POST ${path} HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n${random.pick(chunks)}0\r\n${trailer}\r\n${HIDDEN}`;
  },
  "odd methods": (random, _round, path) => {
    const methods = [
      "get",
      "GE T",
      "G\tET",
      "",
      "FOO",
      "GET\0",
      "CONNECT",
      "PRI",
      "GET,",
      "G".repeat(9_000),
      "\xff",
    ];
    return `${random.pick(methods)} ${path} HTTP/1.1\r\n${HOST}\r\n`;
  },
  "odd versions": (random, _round, path) => {
    const versions = [
      "0.9",
      "1.2",
      "1.10",
      "2.0",
      "9.9",
      "1",
      "",
      "1.1 ",
      "1.1\t",
      "01.1",
      "1,1",
      "-1.1",
      "1.1\0",
    ];
    const name = random.pick(["HTTP/", "http/", "HTTP", "HTTPS/", "HTTP//", "", "ICE/", "RTSP/"]);
    return `GET ${path} ${name}${random.pick([...versions, "1.1"])}\r\n${HOST}\r\n`;
  },
  "odd targets": (random, _round, path) => {
    const targets = [
      ...[`http:/${path}`, `http://${path}`, `http:///${path}`, `ftp://x${path}`, `http:${path}`, `x:80`],
      ...[
        `http://a@b:99999${path}`,
        `http://[::1${path}`,
        `http://x?${path}`,
        `HTTPS://x#${path}`,
        "*",
        "http:",
      ],
      ...[
        `\\${path}`,
        `${path} x`,
        `${path}\t`,
        `${path}\xe4`,
        ` ${path}`,
        `${path}${"a".repeat(40_000)}`,
        "",
        "?",
      ],
    ];
    return `GET ${random.pick(targets)} HTTP/1.1\r\n${HOST}\r\n`;
  },
  "odd hosts": (random, _round, path) => {
    const hosts = [
      "",
      HOST + HOST,
      "Host : x\r\n",
      " Host: x\r\n",
      "Host: \0\r\n",
      "Host\r\n",
      "host: a\r\nHOST: b\r\n",
    ];
    return `GET ${path} HTTP/1.1\r\n${random.pick(hosts)}\r\n`;
  },
  "odd headers": (random, _round, path) => {
    const headers = [
      ...[
        "A b: c\r\n",
        ": c\r\n",
        "A: b\r\n c: d\r\n",
        "A: b\r\n\tc\r\n",
        "A\0: b\r\n",
        "A: b\0\r\n",
        "A: b\rc\r\n",
      ],
      ...[
        "A: b\n",
        "A : b\r\n",
        "A\t: b\r\n",
        "A;: b\r\n",
        "\xe4: b\r\n",
        `A: ${"b".repeat(40_000)}\r\n`,
        "A: b\r\r\n",
      ],
      ...[
        "A: b\r\n".repeat(200),
        `${"A".repeat(40_000)}: b\r\n`,
        "\r: b\r\n",
        "(A): b\r\n",
        "A: \x7f\r\n",
        "A: \x08\r\n",
      ],
    ];
    return `GET ${path} HTTP/1.1\r\n${random.pick(headers)}${HOST}\r\n`;
  },
  "forged identities": (random, _round, path) => {
    const names = [
      "X-Instance-ID",
      "x_instance_id",
      "X-Tenant_ID",
      "X-Instance-ID-Signature",
      "X-Metadata-Provider",
    ];
    const more = [
      "X-Forwarded-For",
      "X_Forwarded_For",
      "Connection",
      "X-Instance-ID ",
      "\tX-Instance-ID",
      "Te",
    ];
    const value = random.pick([
      "x",
      "X-Instance-ID, X-Forwarded-For",
      "trailers",
      "",
      "a\r\nX-Instance-ID: b",
    ]);
    return `GET ${path} HTTP/1.1\r\n${HOST}${random.pick([...names, ...more])}: ${value}\r\n\r\n`;
  },
  "good, bad, hidden": (random, round, path) => {
    const bad = ["odd chunks", "two lengths", "odd headers", "odd methods", "length and chunks"];
    const family = FAMILIES[random.pick(bad)] as Family;
    return get(`${path}/first`) + family(random, round, path) + HIDDEN;
  },
  "more announced than sent": (random, _round, path) => {
    const expects = random.below(2) === 0 ? "Expect: 100-continue\r\n" : "";
    return `POST ${path} HTTP/1.1\r\n${HOST}${expects}Content-Length: ${random.pick(["7", "70000", "99999999"])}\r\n\r\nabc`;
  },
  "another protocol": (random) => {
    const tls = `\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03${"\x5a".repeat(200)}`;
    const noise = Array.from({ length: 300 }, () => String.fromCharCode(random.below(256))).join("");
    return random.pick([
      tls,
      noise,
      "SSH-2.0-OpenSSH_9.2\r\n",
      "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
      "\r\n".repeat(5_000),
    ]);
  },
};

const CODINGS = [
  ...[
    ": xchunked",
    ": chunked, identity",
    ": identity",
    ": gzip, chunked",
    " : chunked",
    ":\x0bchunked",
    ": chunked\0",
  ],
  ...[
    ":\tchunked",
    ": Chunked",
    ": chunked",
    ": \r\n chunked",
    ": chunked;q=1",
    ': "chunked"',
    ":",
    ": chunked,",
  ],
];

function get(path: string): string {
  return `GET ${path} HTTP/1.1\r\n${HOST}X-A: b\r\n\r\n`;
}

function post(path: string): string {
  return `POST ${path} HTTP/1.1\r\n${HOST}Content-Length: 5\r\n\r\nabcde`;
}

function chunked(path: string): string {
  return `PUT ${path} HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n`;
}

/** Whole, or in two or three pieces cut anywhere. */
function cut(bytes: string, random: Random): readonly string[] {
  const cuts = Array.from({ length: random.below(3) }, () => random.below(bytes.length + 1));
  const edges = [0, ...cuts.sort((a, b) => a - b), bytes.length];
  return edges.slice(1).map((edge, at) => bytes.slice(edges[at], edge));
}

/** @source the multiplier and increment of Numerical Recipes' quick generator */
function randomFrom(seed: number): Random {
  let state = Math.imul(seed + 1, 2_654_435_761) >>> 0;
  const below = (limit: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
  return { below, pick: (items) => items[below(items.length)] as (typeof items)[number] };
}
