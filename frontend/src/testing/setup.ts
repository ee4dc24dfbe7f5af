import { cleanup, configure } from "@testing-library/react";
import { afterEach, vi } from "vitest";
import { answer } from "./server";

// The typed client takes fetch when it is loaded: the server stands in before that.
vi.stubGlobal("fetch", answer);
configure({ asyncUtilTimeout: 3_000 }); // a busy machine is no fault
afterEach(cleanup);
