import { KEYS } from "./keys.ts";

const INTRODUCTION = `# Keys

Every key that mn-metadata reads. This page is made from the one table of keys, \`src/config/keys.ts\`.

Keys live in the network state database (NSDB), in MidoNet's layers: a host's own values hide those of the template
that it is mapped to, these hide template \`default\`, and that hides the schemas, whose values are the defaults below.
[mn-conf](mn-conf.md) reads and changes them:

    mn-conf set -t default 'agent.openstack.metadata.enabled : true'

Every change takes effect within a second, without a restart. A value that cannot be used changes nothing: the
last good one stays in force, and the log and \`mn-metadata status\` name the key, the place and the remedy, with the
value in force. It is the same with a layer whose text cannot be read, or is empty: to say nothing, write \`{}\`. At a
start, when nothing is in force, the default stands in for a bad value, and such a layer is left out; where nothing would
then be served, for want of that layer or of a usable \`enabled\`, the agent ends with a sentence and leaves the kernel
as it is.

Durations are written as \`8s\`, \`500ms\` or \`2m\`; a bare number is milliseconds.
`;

/** docs/keys.md. */
export function keysPage(): string {
  const sections = Object.values(KEYS).map((spec) =>
    [
      `## ${spec.key}`,
      "",
      spec.documentation,
      "",
      `- Default: \`${spec.default}\``,
      `- Type: ${spec.type.replace(/^enum.*/, "one of two words")}${spec.unit === "" || spec.unit === spec.type ? "" : ` (${spec.unit})`}`,
      `- Valid: ${spec.validity}`,
      `- Why: ${spec.reason}`,
      ...(spec.secret ? ["- A secret: never logged, and masked by `mn-conf dump`"] : []),
      "",
    ].join("\n"),
  );
  return [INTRODUCTION, ...sections].join("\n");
}
