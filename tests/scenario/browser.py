"""A real Chromium without a window, driven through its own driver."""

import base64
import hashlib
import json
import os
import re
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from harness import wait_for as wait_often
from selenium import webdriver
from selenium.common.exceptions import ElementNotInteractableException, StaleElementReferenceException, WebDriverException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

# What a person, or a program that reads to one, finds an element by: its label, or what stands in it.
NAME = """
const nameOf = (e) => (e.getAttribute("aria-label") || (e.labels && e.labels[0] && e.labels[0].textContent) || e.textContent).trim();
"""
FIND = NAME + """
const [css, name, within] = arguments;
return [...(within ?? document).querySelectorAll(css)].filter((e) => e.checkVisibility() && (name === null || nameOf(e) === name));
"""
# Text that is hard to read: [contrast, text] of what is below 4.5, by the colours that are drawn.
PALE = """
const parse = (c) => { const n = c.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const back = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c[3] > 0.99) return c; } return [255, 255, 255, 1]; };
const found = [];
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walk.nextNode()) {
  const e = walk.currentNode.parentElement, text = walk.currentNode.textContent.trim();
  if (!text || !e.checkVisibility() || e.closest("svg, :disabled")) continue;
  const [a, b] = [light(parse(getComputedStyle(e).color)), light(back(e))].sort((x, y) => y - x), contrast = (a + 0.05) / (b + 0.05);
  if (contrast < 4.5) found.push([contrast.toFixed(2), text]);
}
return found;
"""
NAMELESS = """
return [...document.querySelectorAll("input, select, textarea, button, a, dialog, table, nav, svg[role=img]")].filter((e) => e.checkVisibility()).filter((e) =>
  !(e.getAttribute("aria-label") || e.getAttribute("aria-labelledby") || e.textContent.trim() && !e.matches("select, textarea") || e.labels && e.labels.length))
  .map((e) => e.outerHTML);
"""


def wait_for(condition, what):
    """Not too often: each look makes the browser work."""
    return wait_often(condition, what, every=0.1)


def pin_of(pem):
    key = x509.load_pem_x509_certificate(Path(pem).read_bytes()).public_key()
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(der).digest()).decode()


class Browser:
    def __init__(self, folder, certificate):
        options = Options()
        options.binary_location = "/usr/bin/chromium"
        for arg in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run", "--disable-extensions",
                    "--disable-background-networking", "--disable-component-update", "--disable-crash-reporter", "--hide-scrollbars", "--window-size=1280,900",
                    f"--user-data-dir={folder}/chromium", f"--ignore-certificate-errors-spki-list={pin_of(certificate)}"):
            options.add_argument(arg)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(service=Service("/usr/bin/chromedriver", log_path=os.devnull), options=options)
        self.complaints, self.requests = [], []

    def close(self):
        self.driver.quit()

    def forget(self):
        """As if it had just been started."""
        self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        self.run("sessionStorage.clear()") if self.driver.current_url.startswith("https") else None
        self.driver.get("about:blank")
        self.console(), self.sent()
        self.complaints, self.requests = [], []

    def run(self, script, *args):
        return self.driver.execute_script(script, *args)

    # -- what is there

    def all(self, css, name=None, within=None):
        """Elements that can be seen; name: what they are called."""
        return self.run(FIND, css, name, within)

    def one(self, css, name=None):
        return wait_for(lambda: self.all(css, name), f"{css} called {name}")[0]

    def text(self):
        return self.driver.find_element(By.TAG_NAME, "body").text

    def wait(self, text):
        def there():
            try:
                return text in self.text()
            except WebDriverException:
                return False

        try:
            wait_for(there, text)
        except AssertionError:
            raise AssertionError(f"{text!r} is not in:\n{self.text()}\n{self.console()}") from None

    def focused(self):
        return self.run(NAME + "return nameOf(document.activeElement)")

    # -- what a person does

    def press(self, name, css="button, a"):
        """A button or a link, by its name."""

        def pressed():
            try:
                found = self.all("dialog button", name) or self.all(css, name)
                if found:
                    found[0].click()
                return bool(found)
            except (StaleElementReferenceException, ElementNotInteractableException):
                return False

        wait_for(pressed, f"{name} to press")

    def fill(self, label, text, css="input, textarea, select"):
        scope = self.all("dialog")
        e = self.all(css, label, scope[0])[0] if scope else self.one(css, label)
        if e.tag_name == "select":
            [option for option in e.find_elements(By.TAG_NAME, "option") if option.text == text][0].click()
        else:
            e.clear()
            e.send_keys(text)
        return e

    def tick(self, label):
        self.one("input", label).click()

    def keys(self, *keys):
        ActionChains(self.driver).send_keys(*keys).perform()

    def tab_to(self, name, backward=False):
        """By the keyboard alone."""
        seen = []
        for _ in range(60):
            chain = ActionChains(self.driver)
            if backward:
                chain.key_down(Keys.SHIFT).send_keys(Keys.TAB).key_up(Keys.SHIFT).perform()
            else:
                chain.send_keys(Keys.TAB).perform()
            seen.append(self.focused())
            if seen[-1] == name:
                return
        raise AssertionError(f"the tab key does not come to {name}: {seen}")

    # -- how it looks

    def look(self, width, height=900, scheme="light"):
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False})
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})

    def shoot(self, path):
        shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True})
        Path(path).write_bytes(base64.b64decode(shot["data"]))

    # -- what it complained of, and whom it asked

    def console(self):
        said = [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] != "DEBUG"]
        self.complaints += [line for line in said if not re.search(r"/v1/\S+ - Failed to load resource: the server responded with a status of 4", line)]
        return self.complaints

    def sent(self):
        """What the page asked for, as (URL, all of the request as text)."""
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"].startswith("Network.requestWillBeSent"):
                self.requests.append((message["params"].get("request", {}).get("url", ""), json.dumps(message["params"])))
        return self.requests
