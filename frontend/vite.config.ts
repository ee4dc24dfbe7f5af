import { fileURLToPath } from "node:url";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

const server = process.env.SPARSEWRIGHT_URL ?? "http://127.0.0.1:8000";

export default defineConfig({
  plugins: [react()],
  resolve: { alias: { "@": fileURLToPath(new URL("./src", import.meta.url)) } },
  build: {
    // The platform's Content-Security-Policy allows files of our own only.
    assetsInlineLimit: 0,
    sourcemap: false,
    chunkSizeWarningLimit: 900,
    rolldownOptions: {
      output: {
        // A page is the two chunks of every page, its own, and at most a few more: a request costs more than the
        // kilobytes that a page doesn't need. What only some pages need stays apart: charts, uploads, Markdown.
        codeSplitting: {
          groups: [
            {
              name: "libraries",
              test: /node_modules[\\/](?!uplot|tus-js-client|markdown-to-jsx)/,
              minShareCount: 2,
            },
            { name: "parts", test: /src[\\/](api|components|features|i18n|lib|session)[\\/]/, minShareCount: 3 },
          ],
        },
      },
    },
  },
  server: { proxy: { "/api": server, "/hf": server, "/admin": server, "/static": server } },
  test: {
    include: ["src/**/*.test.{ts,tsx}"],
    environment: "node",
    setupFiles: ["src/testing/setup.ts"],
    testTimeout: 30_000,
    // Node's own loader would make the context of the router's two entries twice.
    alias: { "react-router/dom": "react-router" },
  },
});
