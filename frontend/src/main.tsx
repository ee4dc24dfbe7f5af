import "@mantine/core/styles.css";
import "./style.css";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./app/App";
import { begin } from "./i18n";

const root = document.getElementById("root");
if (!root) throw new Error("index.html has no element #root");
void begin().then(() =>
  createRoot(root).render(
    <StrictMode>
      <App />
    </StrictMode>,
  ),
);
