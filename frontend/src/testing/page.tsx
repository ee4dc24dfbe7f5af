import { render, screen, within } from "@testing-library/react";
import { createMemoryRouter } from "react-router";
import { queries } from "@/api/client";
import { App } from "@/app/App";
import { routes } from "@/app/routes";
import "@/i18n";
import { me } from "./answers";
import { forget, serve } from "./server";

/** A platform of which a test knows nothing yet but that olga is signed in, as an owner. */
export function begin(): void {
  forget();
  queries.clear();
  localStorage.clear();
  document.documentElement.lang = "en";
  serve("get", "/api/v1/me", me);
}

/** The whole application at an address; its main part, once it has a heading. */
export async function open(address: string): Promise<ReturnType<typeof within>> {
  render(<App router={createMemoryRouter(routes, { initialEntries: [address] })} />);
  await screen.findByRole("heading", { level: 1 });
  return within(screen.getByRole("main"));
}
