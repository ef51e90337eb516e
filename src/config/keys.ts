import {
  refuseFile,
  refuseLevel,
  refuseLinkLocalRanges,
  refuseNovaUrls,
  refuseOutside,
  refuseServerName,
} from "./validity.ts";

/** The value of every key as it is read: durations in milliseconds, lists as they are, secrets in clear. */
export interface KeyValues {
  readonly enabled: boolean;
  readonly novaMetadataUrl: string;
  readonly sharedSecret: string;
  readonly previousSharedSecret: string;
  readonly holdMs: number;
  readonly slowDocumentMs: number;
  readonly cacheTtlMs: number;
  readonly imdsv2: string;
  readonly requestsPerSecond: number;
  readonly requestBurst: number;
  readonly novaCaFile: string;
  readonly novaClientCertFile: string;
  readonly novaClientKeyFile: string;
  readonly novaServerName: string;
  readonly reservedRanges: readonly string[];
  readonly rootLevel: string;
  readonly ownLevel: string;
}

/** The types of MidoNet's schemas that ours uses. */
export type KeyType = "bool" | "string" | "duration" | "int" | "string[]" | "enum[optional, required]";

/** One key: all that is known of it, for the program, for the schema in the NSDB and for the reader of docs/keys.md. */
export interface KeySpec<T> {
  readonly key: string;
  readonly type: KeyType;
  /** MidoNet's own schema does not declare the type of this key, so `mn-conf set` compares with the default's. */
  readonly midonets: boolean;
  /** In HOCON. */
  readonly default: string;
  readonly unit: string;
  readonly validity: string;
  /** What it is and does. */
  readonly documentation: string;
  /** Why it exists, or why the default is what it is. */
  readonly reason: string;
  readonly secret: boolean;
  /** Why a value of the right type is refused; undefined if it is not. */
  readonly refuse: (value: T) => string | undefined;
}

/** Where the keys of the metadata service are. */
export const METADATA = "agent.openstack.metadata";

const anything = (): undefined => undefined;

/** Every key that this project reads. Defaults live here and nowhere else. */
export const KEYS: { readonly [P in keyof KeyValues]: KeySpec<KeyValues[P]> } = {
  enabled: {
    key: `${METADATA}.enabled`,
    type: "bool",
    midonets: true,
    default: "false",
    unit: "",
    validity: "true or false",
    documentation:
      "Serve metadata to the guests of this host. If false, nothing is plumbed and nothing listens.",
    reason: "As in MidoNet: nothing on a host changes before an operator says so.",
    secret: false,
    refuse: anything,
  },
  novaMetadataUrl: {
    key: `${METADATA}.nova_metadata_url`,
    type: "string",
    midonets: true,
    default: '"http://localhost:8775"',
    unit: "",
    validity: "one or more of http://host:port, https://host:port, unix:/path, separated by commas",
    documentation:
      "Where nova-api-metadata listens. With several, each guest sticks to one of them, and goes to another if that one fails.",
    reason: "As in MidoNet, which knows one http URL only.",
    secret: false,
    refuse: refuseNovaUrls,
  },
  sharedSecret: {
    key: `${METADATA}.shared_secret`,
    type: "string",
    midonets: true,
    default: '""',
    unit: "",
    validity: "any text; the same as metadata_proxy_shared_secret in the [neutron] section of nova.conf",
    documentation: "Signs each request, so that nova believes which instance asks.",
    reason: "As in MidoNet. With an empty secret nova refuses every request.",
    secret: true,
    refuse: anything,
  },
  previousSharedSecret: {
    key: `${METADATA}.previous_shared_secret`,
    type: "string",
    midonets: false,
    default: '""',
    unit: "",
    validity: "any text; empty for none",
    documentation:
      "Tried when nova refuses the shared secret. To change the secret without a failed request: set this to the old one, set shared_secret to the new one, change and restart nova, then unset this.",
    reason: "All nova processes never change their secret at the same moment.",
    secret: true,
    refuse: anything,
  },
  holdMs: {
    key: `${METADATA}.hold_time`,
    type: "duration",
    midonets: false,
    default: "8s",
    unit: "duration",
    validity: "0s to 60s",
    documentation:
      "How long a request waits for its port to appear in the database or for nova to come back, before it is answered 503, and for nova's answer, before it is answered 504: it should be longer than nova ever thinks.",
    reason:
      "cloud-init gives up after 10 s, and its older versions take any error as final: waiting is kinder than refusing.",
    secret: false,
    refuse: refuseOutside(0, 60_000, "ms"),
  },
  slowDocumentMs: {
    key: `${METADATA}.slow_document_time`,
    type: "duration",
    midonets: false,
    default: "30s",
    unit: "duration",
    validity: "1s to 10m",
    documentation: "The same for vendor_data2.json, which nova itself fetches from other services.",
    reason: "nova waits 5 s for each of these services, and up to 30 s in all with their retries.",
    secret: false,
    refuse: refuseOutside(1_000, 600_000, "ms"),
  },
  cacheTtlMs: {
    key: `${METADATA}.cache_ttl`,
    type: "duration",
    midonets: false,
    default: "0s",
    unit: "duration",
    validity: "0s to 15s; 0s is never",
    documentation:
      "How long an answer may be given again to the same instance. Passwords, vendor_data2.json and random seeds are never kept.",
    reason:
      "15 s is how long nova itself remembers; identical requests in flight share one answer in any case.",
    secret: false,
    refuse: refuseOutside(0, 15_000, "ms"),
  },
  imdsv2: {
    key: `${METADATA}.imdsv2`,
    type: "enum[optional, required]",
    midonets: false,
    default: '"optional"',
    unit: "",
    validity: "optional or required",
    documentation:
      "Whether a guest must show a session token (PUT /latest/api/token), as clients of AWS know it, or may.",
    reason: "Most images do not ask for a token, so requiring one would keep them from booting.",
    secret: false,
    refuse: anything,
  },
  requestsPerSecond: {
    key: `${METADATA}.requests_per_second`,
    type: "int",
    midonets: false,
    default: "100",
    unit: "requests per second and port",
    validity: "1 to 10000",
    documentation: "What one port may ask in the long run while others ask too; more waits its turn.",
    reason: "A guest that polls in a tight loop must not take nova away from its neighbours.",
    secret: false,
    refuse: refuseOutside(1, 10_000),
  },
  requestBurst: {
    key: `${METADATA}.request_burst`,
    type: "int",
    midonets: false,
    default: "200",
    unit: "requests per port",
    validity: "100 to 100000",
    documentation: "What one port may ask at once before requests_per_second counts.",
    reason: "A boot asks for some dozens of documents at once; below 100 a boot could fail.",
    secret: false,
    refuse: refuseOutside(100, 100_000),
  },
  novaCaFile: {
    key: `${METADATA}.nova_ca_file`,
    type: "string",
    midonets: false,
    default: '""',
    unit: "",
    validity: "absolute path of a PEM file; empty for the authorities that Node.js trusts",
    documentation: "Certificate authorities that may vouch for nova, for https URLs.",
    reason: "Clouds have authorities of their own.",
    secret: false,
    refuse: refuseFile,
  },
  novaClientCertFile: {
    key: `${METADATA}.nova_client_cert_file`,
    type: "string",
    midonets: false,
    default: '""',
    unit: "",
    validity: "absolute path of a PEM file; empty for none",
    documentation: "Certificate shown to nova, for https URLs. Needs nova_client_key_file.",
    reason: "nova may ask for one.",
    secret: false,
    refuse: refuseFile,
  },
  novaClientKeyFile: {
    key: `${METADATA}.nova_client_key_file`,
    type: "string",
    midonets: false,
    default: '""',
    unit: "",
    validity: "absolute path of a PEM file; empty for none",
    documentation: "Private key of nova_client_cert_file.",
    reason: "It stays in a file of this host: the database is readable by every host.",
    secret: false,
    refuse: refuseFile,
  },
  novaServerName: {
    key: `${METADATA}.nova_server_name`,
    type: "string",
    midonets: false,
    default: '""',
    unit: "",
    validity: "a host name; empty for the host of the URL",
    documentation: "The name that nova's certificate must bear, for https URLs; also sent as SNI.",
    reason: "URLs often hold an address, and certificates a name.",
    secret: false,
    refuse: refuseServerName,
  },
  reservedRanges: {
    key: `${METADATA}.reserved_ranges`,
    type: "string[]",
    midonets: false,
    default: '["169.254.123.0/24", "169.254.124.0/30"]',
    unit: "",
    validity: "list of networks inside 169.254.0.0/16",
    documentation:
      "Link-local addresses that stand for no guest, because this host uses them for something else.",
    reason: "The default is what MidoNet's agent uses on every host (recirculation and floating IPv6).",
    secret: false,
    refuse: refuseLinkLocalRanges,
  },
  rootLevel: {
    key: "agent.loggers.root",
    type: "string",
    midonets: true,
    default: '"INFO"',
    unit: "",
    validity: "OFF, ERROR, WARN, INFO, DEBUG, TRACE or ALL, in any case",
    documentation: "Log level of every logger that has none of its own.",
    reason: "As in MidoNet. We log errors at least, and nothing below debug.",
    secret: false,
    refuse: refuseLevel,
  },
  ownLevel: {
    key: "agent.loggers.mn-metadata",
    type: "string",
    midonets: false,
    // biome-ignore lint/suspicious/noTemplateCurlyInString: this is HOCON's reference
    default: "${agent.loggers.root}",
    unit: "",
    validity: "as agent.loggers.root",
    documentation: "Log level of mn-metadata.",
    reason: "So that it can be made to talk without all of MidoNet talking.",
    secret: false,
    refuse: refuseLevel,
  },
};

/** Whether a key holds a secret, by its name, be it ours or not. */
export function isSecretKey(path: readonly string[]): boolean {
  return /(secret|password)$/i.test(path.at(-1) ?? "");
}
