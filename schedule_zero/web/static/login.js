// A sign-in link was opened by a person: send its form.
document.getElementById("by-link").submit();
