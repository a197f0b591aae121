import { defineConfig } from "vite";

// Into the Python package: what lies there is in the wheel.
export default defineConfig({
  base: "./",
  build: {
    outDir: "../maskseg/serve/static",
    emptyOutDir: true,
    chunkSizeWarningLimit: 2000,
    rollupOptions: { input: ["index.html", "api.html"] },
  },
});
