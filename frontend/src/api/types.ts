/** Short names for the generated types. Nothing is written by hand here: see `npm run types`. */
import type { components } from "./schema";

type Schemas = components["schemas"];

export type Me = Schemas["Me"];
