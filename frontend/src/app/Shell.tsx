import {
  ActionIcon,
  AppShell,
  Box,
  Burger,
  Button,
  Group,
  Menu,
  NavLink,
  Select,
  Text,
  useComputedColorScheme,
  useMantineColorScheme,
} from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useTranslation } from "react-i18next";
import { Link, Navigate, Outlet, useLocation, useNavigate, useParams } from "react-router";
import { api, setMe } from "@/api/client";
import { Empty } from "@/components/Empty";
import { MoonIcon, SunIcon } from "@/components/icons";
import { LanguageButton } from "@/components/LanguageButton";
import { useMe, useWorkspace } from "@/session/session";

const LAST = "sparsewright.workspace";

/** The start page: the jobs of the workspace that was open last. */
export function Home() {
  const { t } = useTranslation();
  const { me } = useMe();
  const { workspace } = useParams();
  const slugs = me?.workspaces.map((place) => place.slug) ?? [];
  const last = localStorage.getItem(LAST);
  const wanted = [workspace, last, slugs[0]].find((slug) => slug && slugs.includes(slug));
  if (!wanted) return <Empty title={t("shell.noWorkspace")} text={t("shell.noWorkspaceText")} />;
  return <Navigate to={`/w/${wanted}/jobs`} replace />;
}

export function Shell() {
  const { t } = useTranslation();
  const { me } = useMe();
  const { slug, canEdit } = useWorkspace();
  const [opened, { toggle, close }] = useDisclosure(false);
  const navigate = useNavigate();
  const { pathname } = useLocation();
  if (!me) return null;
  const known = me.workspaces.some((place) => place.slug === slug);
  if (known) localStorage.setItem(LAST, slug);
  const root = `/w/${slug}`;
  const links = (["datasets", "jobs", "models", "serving", "settings"] as const).map((name) => (
    <NavLink
      key={name}
      component={Link}
      to={`${root}/${name}`}
      label={t(`shell.${name}`)}
      active={pathname.startsWith(`${root}/${name}`)}
      aria-current={pathname.startsWith(`${root}/${name}`) ? "page" : undefined}
      onClick={close}
    />
  ));

  return (
    <AppShell
      header={{ height: 56 }}
      navbar={{ width: 208, breakpoint: "sm", collapsed: { mobile: !opened } }}
      padding={{ base: "sm", sm: "lg" }}
    >
      <a href="#main" className="skip">
        {t("shell.skip")}
      </a>
      <AppShell.Header px="md">
        <Group h="100%" justify="space-between" wrap="nowrap" gap="xs">
          <Group gap="sm" wrap="nowrap">
            <Burger opened={opened} onClick={toggle} hiddenFrom="sm" size="sm" aria-label={t("shell.menu")} />
            <Text component={Link} to={root} fw={700} c="inherit" td="none" visibleFrom="xs">
              Sparsewright
            </Text>
            <Select
              aria-label={t("shell.workspace")}
              data={me.workspaces.map((place) => ({ value: place.slug, label: place.name || place.slug }))}
              value={known ? slug : null}
              placeholder={t("shell.workspace")}
              onChange={(chosen) => chosen && navigate(`/w/${chosen}/jobs`)}
              allowDeselect={false}
              size="xs"
              w={{ base: 130, sm: 180 }}
            />
          </Group>
          <Group gap="xs" wrap="nowrap">
            {canEdit && (
              <Button component={Link} to={`${root}/jobs/new`} size="xs" visibleFrom="xs">
                {t("shell.newJob")}
              </Button>
            )}
            <LanguageButton />
            <SchemeButton />
            <Menu position="bottom-end">
              <Menu.Target>
                <Button variant="subtle" color="gray" size="xs" px={6} maw={130} aria-label={t("shell.account")}>
                  {me.user?.username}
                </Button>
              </Menu.Target>
              <Menu.Dropdown>
                <Menu.Item component={Link} to={`${root}/settings`}>
                  {t("shell.settings")}
                </Menu.Item>
                <Menu.Item component="a" href="/api/v1/docs">
                  {t("shell.apiDocs")}
                </Menu.Item>
                <Menu.Divider />
                <SignOut />
              </Menu.Dropdown>
            </Menu>
          </Group>
        </Group>
      </AppShell.Header>
      <AppShell.Navbar p="xs" component="nav" aria-label={t("shell.navigation")}>
        {links}
      </AppShell.Navbar>
      <AppShell.Main id="main" tabIndex={-1} style={{ outline: "none" }}>
        <Box>
          {known ? <Outlet /> : <Empty title={t("shell.unknownWorkspace")} text={t("shell.unknownWorkspaceText")} />}
        </Box>
      </AppShell.Main>
    </AppShell>
  );
}

function SchemeButton() {
  const { t } = useTranslation();
  const { setColorScheme } = useMantineColorScheme();
  const dark = useComputedColorScheme("light") === "dark";
  return (
    <ActionIcon
      variant="default"
      size="md"
      onClick={() => setColorScheme(dark ? "light" : "dark")}
      aria-label={dark ? t("shell.light") : t("shell.dark")}
    >
      {dark ? <SunIcon /> : <MoonIcon />}
    </ActionIcon>
  );
}

function SignOut() {
  const { t } = useTranslation();
  const navigate = useNavigate();
  const leave = api.useMutation("delete", "/api/v1/session", {
    onSuccess: () => {
      setMe(null);
      void navigate("/", { replace: true });
    },
  });
  return <Menu.Item onClick={() => leave.mutate({})}>{t("shell.signOut")}</Menu.Item>;
}
