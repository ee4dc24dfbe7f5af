import type { RouteObject } from "react-router";
import { Problem } from "@/components/Problem";
import { loader as jobLoader } from "@/features/jobs/job";
import * as JobsPage from "@/features/jobs/ListPage";
import { Gate } from "./Gate";
import { Home, Shell } from "./Shell";

/** A page's code is loaded when it is first opened; that of the page behind the sign-in comes along. */
export const routes: RouteObject[] = [
  {
    Component: Gate,
    ErrorBoundary: Problem,
    HydrateFallback: () => null,
    children: [
      { index: true, Component: Home },
      {
        path: "w/:workspace",
        Component: Shell,
        ErrorBoundary: Problem,
        children: [
          { index: true, Component: Home },
          { path: "datasets", lazy: () => import("@/features/datasets/ListPage") },
          { path: "datasets/new", lazy: () => import("@/features/datasets/UploadPage") },
          { path: "datasets/:id", lazy: () => import("@/features/datasets/DatasetPage") },
          { path: "jobs", ...JobsPage },
          { path: "jobs/new", lazy: () => import("@/features/jobs/NewPage") },
          { path: "jobs/compare", lazy: () => import("@/features/jobs/compare/ComparePage") },
          { path: "jobs/:id/report", lazy: () => import("@/features/jobs/report/ReportPage") },
          { path: "jobs/:id", loader: jobLoader, lazy: () => import("@/features/jobs/JobPage") },
          { path: "models", lazy: () => import("@/features/models/ListPage") },
          { path: "models/:ns/:name", lazy: () => import("@/features/models/ModelPage") },
          { path: "serving/playground", lazy: () => import("@/features/serving/PlaygroundPage") },
          { path: "serving", lazy: () => import("@/features/serving/ServingPage") },
          { path: "settings", lazy: () => import("@/features/settings/SettingsPage") },
        ],
      },
    ],
  },
];
