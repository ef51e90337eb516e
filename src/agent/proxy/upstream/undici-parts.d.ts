// The parts of undici that are loaded alone have no types of their own; they are those of its entry.
declare module "undici/lib/dispatcher/client.js" {
  import { Client } from "undici";
  export = Client;
}
declare module "undici/lib/core/errors.js" {
  import { errors } from "undici";
  export = errors;
}
