import "@mantine/core/styles.css";
import "./style.css";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { createBrowserRouter } from "react-router";
import { api, queries } from "@/api/client";
import { App } from "./app/App";
import { routes } from "./app/routes";
import { begin } from "./i18n";

const root = document.getElementById("root");
if (!root) throw new Error("index.html has no element #root");
const router = createBrowserRouter(routes);
// Asked for at once, while the texts and the page are still on their way: nothing is shown before it is answered.
void queries.prefetchQuery(api.queryOptions("get", "/api/v1/me"));
void begin().then(() =>
  createRoot(root).render(
    <StrictMode>
      <App router={router} />
    </StrictMode>,
  ),
);
